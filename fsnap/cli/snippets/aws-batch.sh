#!/usr/bin/env bash
# fsnap on AWS Batch: a job definition whose jobs survive the loss of their spot instance, and one job.
#
# Needs an image with fsnap, CRIU and your command, and a queue on EC2 spot instances. Set the five
# variables, here or in the environment, and run this with bash and the AWS CLI.
set -euo pipefail

export AWS_REGION=${AWS_REGION:?the region of the queue and of the bucket}
BUCKET=${BUCKET:?the bucket that keeps snapshots}
IMAGE=${IMAGE:?the image of the job}
QUEUE=${QUEUE:?the job queue}
ROLE=${ROLE:?the name of the IAM role of the job, which ecs-tasks.amazonaws.com may assume}
COMPUTE_ENV=${COMPUTE_ENV:-} # the queue's compute environment, to give it the launch template of step 1

docs=$(mktemp -d)
trap 'rm -rf "$docs"' EXIT

# 1. The container asks the instance's metadata service for the reclaim notice. It is one network hop farther
#    away than the instance itself, so the answer must be allowed two.
cat >"$docs/launch-template.json" <<END
{
  "LaunchTemplateName": "fsnap",
  "LaunchTemplateData": {
    "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
  }
}
END
aws ec2 describe-launch-templates --launch-template-names fsnap >/dev/null 2>&1 ||
    aws ec2 create-launch-template --cli-input-json "file://$docs/launch-template.json"

#    The compute environment: managed, type SPOT, SPOT_PRICE_CAPACITY_OPTIMIZED, ECS_AL2023, and one family of
#    instance types (c6id, say): a process restores only where the CPU has all the features it started with.
cat >"$docs/compute-environment.json" <<END
{
  "computeEnvironment": "$COMPUTE_ENV",
  "computeResources": {"launchTemplate": {"launchTemplateName": "fsnap", "version": "\$Latest"}}
}
END
[ -z "$COMPUTE_ENV" ] ||
    aws batch update-compute-environment --cli-input-json "file://$docs/compute-environment.json"

# 2. What the job may do in the bucket. ListBucket stands without a prefix condition, since with one S3 says 403
#    instead of 404 for an object that is not there.
cat >"$docs/policy.json" <<END
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
      "Resource": "arn:aws:s3:::$BUCKET/fsnap/*"
    },
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::$BUCKET"}
  ]
}
END
aws iam put-role-policy --role-name "$ROLE" --policy-name fsnap --policy-document "file://$docs/policy.json"
role_arn=$(aws iam get-role --role-name "$ROLE" --query Role.Arn --output text)

# 3. The job definition.
#    privileged   Batch can add no single capability (CRIU needs CAP_SYS_ADMIN and more), and Fargate has neither.
#    volumes      fsnap-home is on the instance: an overlay's upper can't lie on the container's own overlay.
#                 scratch is the state dir, empty at the start of each attempt; fsnap carries what is in it.
#    hold         after the commit fsnap waits for the instance to go: only then does Batch say "Host EC2 ...".
#    retry        the instance went, or fsnap says: start me again (175 reclaimed without the last commit,
#                 176 restore failed, 177 checkpointed). Batch takes five rules, in this order, and ten attempts.
#    timeout      counts for each attempt, and a job that it ends is not tried again.
cat >"$docs/job-definition.json" <<END
{
  "jobDefinitionName": "fsnap",
  "type": "container",
  "platformCapabilities": ["EC2"],
  "containerProperties": {
    "image": "$IMAGE",
    "command": ["fsnap", "run", "--", "bash", "-c", "Ref::script"],
    "user": "root",
    "privileged": true,
    "jobRoleArn": "$role_arn",
    "resourceRequirements": [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "16384"}],
    "volumes": [{"name": "fsnap-home", "host": {"sourcePath": "/var/lib/fsnap"}}, {"name": "scratch"}],
    "mountPoints": [
      {"sourceVolume": "fsnap-home", "containerPath": "/var/lib/fsnap"},
      {"sourceVolume": "scratch", "containerPath": "/scratch"}
    ],
    "environment": [
      {"name": "AWS_REGION", "value": "$AWS_REGION"},
      {"name": "FSNAP_STORE", "value": "s3://$BUCKET/fsnap"},
      {"name": "FSNAP_STATE_DIR", "value": "/scratch"},
      {"name": "FSNAP_PROVIDER", "value": "aws"},
      {"name": "FSNAP_AFTER_COMMIT", "value": "hold"}
    ]
  },
  "parameters": {"script": "echo 'submit me with the parameter script' >&2; exit 2"},
  "retryStrategy": {
    "attempts": 10,
    "evaluateOnExit": [
      {"action": "RETRY", "onStatusReason": "Host EC2*"},
      {"action": "RETRY", "onExitCode": "175"},
      {"action": "RETRY", "onExitCode": "176"},
      {"action": "RETRY", "onExitCode": "177"},
      {"action": "EXIT", "onReason": "*"}
    ]
  },
  "timeout": {"attemptDurationSeconds": 86400}
}
END
aws batch register-job-definition --cli-input-json "file://$docs/job-definition.json"

# 4. A job. Put your own command in the place of sort; what it writes in /scratch and in /tmp travels with it.
cat >"$docs/job.json" <<END
{
  "jobName": "fsnap-first",
  "jobQueue": "$QUEUE",
  "jobDefinition": "fsnap",
  "parameters": {"script": "cd /scratch && seq 100000000 | sort -R | sort -n >sorted.txt"}
}
END
aws batch submit-job --cli-input-json "file://$docs/job.json"
