import java.io.File;
import java.io.FileWriter;
import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Threads, a heap that grows and is collected, and a file; performance data stays at its default, in /tmp. */
public class Grow {
    static final int STEPS = 40;
    static final int WORKERS = 3;

    static long work(int seed, Map<Long, byte[]> heap) {
        long x = seed;
        for (int i = 0; i < 20000; i++) {
            x = x * 6364136223846793005L + 1442695040888963407L;
            if (i % 200 == 0) {
                byte[] block = new byte[4096];
                for (int at = 0; at < block.length; at += 64) {
                    block[at] = (byte) (x >>> (at % 56));
                }
                synchronized (heap) {
                    heap.put(x, block);
                }
            }
        }
        return x;
    }

    public static void main(String[] arguments) throws Exception {
        long paceMs = (long) (Double.parseDouble(System.getenv("PACE")) * 1000);
        File hurry = new File(System.getenv("HURRY"));
        Map<Long, byte[]> heap = new HashMap<>();
        ExecutorService pool = Executors.newFixedThreadPool(WORKERS);
        try (PrintWriter out = new PrintWriter(new FileWriter("grow.txt"))) {
            for (int step = 0; step < STEPS; step++) {
                List<Future<Long>> parts = new ArrayList<>();
                for (int worker = 0; worker < WORKERS; worker++) {
                    int seed = step * WORKERS + worker + 1;
                    parts.add(pool.submit(() -> work(seed, heap)));
                }
                long sum = 0;
                for (Future<Long> part : parts) {
                    sum ^= part.get();
                }
                out.println(step + " " + sum + " " + heap.size());
                out.flush();
                System.out.println("step " + step + " " + Long.toHexString(sum));
                if (!hurry.exists()) {
                    Thread.sleep(paceMs);
                }
            }
            long total = 0;
            long keys = 0;
            for (Map.Entry<Long, byte[]> entry : heap.entrySet()) {
                for (byte b : entry.getValue()) {
                    total += b;
                }
                keys ^= entry.getKey();
            }
            out.println("all " + total + " " + keys);
        }
        pool.shutdown();
        System.out.println("ends");
    }
}
