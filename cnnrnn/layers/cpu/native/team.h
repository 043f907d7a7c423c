// A team of threads that runs the tasks of one phase after another: the caller, and helpers from XLA's thread pool.
//
// Every member has a share of the tasks, the same in each phase of a kind, so that it finds in its cache what it wrote
// before. A member that has finished its share takes tasks from the others (work stealing). So the caller waits only
// for tasks that a helper has begun, and runs all tasks itself if nobody comes. Who runs a task changes no result.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "product.h"
#include "xla/ffi/api/c_api.h"

enum { MAX_MEMBERS = 256, SPINS = 2000 };

typedef void Task(void *job, long task);

typedef struct {
  _Alignas(64) atomic_llong ticket;  // 2^32 times one past the last task, plus the next one to be claimed
} Share;

typedef struct {
  Share shares[MAX_MEMBERS];
  atomic_int references;     // the caller, and the helpers that the pool still has to run
  atomic_int num_members;    // that have come
  atomic_int phase;          // its number
  atomic_int is_over;        // there will be no more phases
  _Alignas(64) atomic_long num_finished;  // tasks of the phase; apart from what waiting members read
  _Alignas(64) long num_shares;
  pthread_t caller;
  Task *task;                // these two do not change while a claimed task is not finished
  void *job;
} Team;

INLINE void wait_a_moment(int *spins) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
  if (++*spins == SPINS) {
    sched_yield();
    *spins = 0;
  }
}

static void leave(Team *team) {
  if (atomic_fetch_sub(&team->references, 1) == 1) free(team);
}

// Runs tasks until all are claimed: first of the member's share, then of the others.
static void run_tasks(Team *team, long member) {
  for (long i = 0; i < team->num_shares; i++) {
    atomic_llong *ticket = &team->shares[(member + i) % team->num_shares].ticket;
    for (;;) {
      long long claimed = atomic_load_explicit(ticket, memory_order_acquire);
      if ((claimed & 0xffffffff) >= claimed >> 32) break;
      claimed = atomic_fetch_add_explicit(ticket, 1, memory_order_acquire);
      if ((claimed & 0xffffffff) >= claimed >> 32) break;  // others were faster
      team->task(team->job, (long)(claimed & 0xffffffff));
      atomic_fetch_add_explicit(&team->num_finished, 1, memory_order_release);
    }
  }
}

// What a thread of the pool runs.
static void help(void *data) {
  Team *team = data;
  int is_caller = pthread_equal(team->caller, pthread_self());  // a pool whose queue is full runs this at once
  long member = atomic_fetch_add(&team->num_members, 1);
  for (int spins = 0, seen = 0; !is_caller && !atomic_load_explicit(&team->is_over, memory_order_acquire);) {
    int phase = atomic_load_explicit(&team->phase, memory_order_acquire);
    if (phase == seen) {
      wait_a_moment(&spins);
    } else {
      run_tasks(team, member);
      seen = phase;
    }
  }
  leave(team);
}

// A team of the caller and whoever comes; NULL if there is no memory.
static Team *create_team(XLA_FFI_CallFrame *frame) {
  Team *team = aligned_alloc(64, sizeof *team);
  if (!team) return NULL;
  memset(team, 0, sizeof *team);
  team->caller = pthread_self();
  team->num_members = 1;
  int64_t num_threads = 1;
  XLA_FFI_ThreadPool_NumThreads_Args count = {
      .struct_size = XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, .ctx = frame->ctx, .num_threads = &num_threads};
  XLA_FFI_Error *error = frame->api->XLA_FFI_ThreadPool_NumThreads(&count);
  if (error) {
    XLA_FFI_Error_Destroy_Args destroy = {.struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, .error = error};
    frame->api->XLA_FFI_Error_Destroy(&destroy);
    num_threads = 1;
  }
  if (num_threads > MAX_MEMBERS) num_threads = MAX_MEMBERS;
  if (num_threads < 1) num_threads = 1;
  team->num_shares = num_threads;
  atomic_store(&team->references, (int)num_threads);
  for (int64_t helper = 1; helper < num_threads; helper++) {
    XLA_FFI_ThreadPool_Schedule_Args schedule = {
        .struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE, .ctx = frame->ctx, .task = help, .data = team};
    error = frame->api->XLA_FFI_ThreadPool_Schedule(&schedule);
    if (error) {
      XLA_FFI_Error_Destroy_Args destroy = {.struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, .error = error};
      frame->api->XLA_FFI_Error_Destroy(&destroy);
      leave(team);
    }
  }
  return team;
}

// Runs `num_tasks` tasks of a phase, less than 2^31, and returns when all are finished.
static void run_phase(Team *team, Task *task, void *job, long num_tasks) {
  team->task = task, team->job = job;
  atomic_store_explicit(&team->num_finished, 0, memory_order_relaxed);
  for (long i = 0; i < team->num_shares; i++) {
    long long end = part_start(num_tasks, i + 1, team->num_shares);
    long long ticket = end << 32 | part_start(num_tasks, i, team->num_shares);
    atomic_store_explicit(&team->shares[i].ticket, ticket, memory_order_release);
  }
  atomic_fetch_add_explicit(&team->phase, 1, memory_order_release);
  run_tasks(team, 0);
  int spins = 0;
  while (atomic_load_explicit(&team->num_finished, memory_order_acquire) < num_tasks) wait_a_moment(&spins);
}

static void release_team(Team *team) {
  atomic_store(&team->is_over, 1);
  leave(team);
}
