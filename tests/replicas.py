"""Tests on two replicas, in a process of their own."""

import subprocess
import sys

# TensorFlow splits the CPU before its first use only. A test needs no optimized graph.
TWO_CPUS = """
import tensorflow as tf

tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
"""


def run_on_two_cpus(script, *arguments):
    """What a script prints in which TensorFlow, `tf`, has the CPUs 0 and 1."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_CPUS + script, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
