// A team of threads that runs the tasks of one phase after another: the caller, and helpers from XLA's thread pool.
//
// Whoever is free claims the next task. So the caller waits only for tasks that a helper has begun, and runs all tasks
// itself if nobody comes. Who runs a task changes no result.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "xla/ffi/api/c_api.h"

enum { MAX_MEMBERS = 256, SPINS = 2000 };

typedef void Task(void *job, long task);

typedef struct {
  atomic_int references;     // the caller, and the helpers that the pool still has to run
  atomic_int is_over;        // there will be no more phases
  atomic_llong ticket;       // of the phase: the number of tasks times 2^32, plus the number of tasks claimed
  atomic_long num_finished;  // tasks of the phase
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

// Runs tasks of the phase until all are claimed. Returns whether there was one.
static int run_tasks(Team *team) {
  for (int has_run = 0;; has_run = 1) {
    long long ticket = atomic_load_explicit(&team->ticket, memory_order_acquire);
    if ((ticket & 0xffffffff) >= ticket >> 32) return has_run;
    ticket = atomic_fetch_add_explicit(&team->ticket, 1, memory_order_acquire);
    if ((ticket & 0xffffffff) >= ticket >> 32) return has_run;  // others were faster
    team->task(team->job, (long)(ticket & 0xffffffff));
    atomic_fetch_add_explicit(&team->num_finished, 1, memory_order_release);
  }
}

// What a thread of the pool runs.
static void help(void *data) {
  Team *team = data;
  int is_caller = pthread_equal(team->caller, pthread_self());  // a pool whose queue is full runs this at once
  for (int spins = 0; !is_caller && !atomic_load(&team->is_over);) {
    if (!run_tasks(team)) wait_a_moment(&spins);
  }
  leave(team);
}

// A team of the caller and whoever comes; NULL if there is no memory.
static Team *gather_team(XLA_FFI_CallFrame *frame) {
  Team *team = calloc(1, sizeof *team);
  if (!team) return NULL;
  team->caller = pthread_self();
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
  atomic_store_explicit(&team->ticket, (long long)num_tasks << 32, memory_order_release);
  run_tasks(team);
  for (int spins = 0; atomic_load_explicit(&team->num_finished, memory_order_acquire) < num_tasks;) wait_a_moment(&spins);
}

static void dismiss_team(Team *team) {
  atomic_store(&team->is_over, 1);
  leave(team);
}
