# Every number of the benchmarks, the same for all servers.
# SPDX-License-Identifier: BSD-3-Clause

# Processors for server and client together (taskset's list).
cpus=${CPUS:-0,1}

# Threads of nbdkit; qemu-nbd has its own ways.  Clients that qemu-nbd
# admits at a time (more than one makes it say multi-conn).
threads=16
shared=16

# Connections: of our own client, and of nbdcopy.
connections=1
copy_connections=4

# qemu-nbd at its best.
qemu_options=(--aio=io_uring --cache=writeback --discard=unmap)

seed=20240229

# Sequential requests.
seq_block=256K
seq_depth=8

# Random requests, where the row does not say another depth.
depth=16

full_settings () {
  rounds=7
  seconds=1                     # for rows that go on for a time

  disk_len=1G                   # full images, sequential writing
  random_len=2G                 # random writing into empty images
  random_requests=32768
  cow_requests=16384
  chain_len=512M
  text_len=512M                 # compressed images

  huge_len=1T                   # scattered images
  huge_clusters=16384
  sparse_len=64G                # for nbdcopy
  sparse_clusters=2048
  flush_len=8G

  start_sizes=(10M 1G 100G 1T)
  start_times=15
  verify_requests=20000         # of the rows that go on for a time
  verify_flush_requests=500     # of those with flushes, which are slow
}

# To see that everything works; the numbers mean little.
quick_settings () {
  full_settings
  rounds=2
  seconds=0.3
  disk_len=64M
  random_len=256M
  random_requests=4096
  cow_requests=1024
  chain_len=64M
  text_len=64M
  huge_clusters=1024
  sparse_len=8G
  sparse_clusters=256
  flush_len=1G
  start_times=3
  verify_requests=1000
  verify_flush_requests=100
}
