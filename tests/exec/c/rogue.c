/* Functions that should not be. */
#define _GNU_SOURCE
#include "vaccel.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define FUNCTION(name) \
	int name(struct vaccel_arg *in, size_t n_in, struct vaccel_arg *out, size_t n_out)
#define UNUSED (void)in, (void)n_in, (void)out, (void)n_out

FUNCTION(fine)
{
	UNUSED;
	return 0;
}

FUNCTION(segfault)
{
	UNUSED;
	*(volatile int *)8 = 1;
	return 0;
}

FUNCTION(aborts)
{
	UNUSED;
	abort();
}

FUNCTION(exits)
{
	UNUSED;
	exit(3);
}

/* Writes its process id to a named pipe, so that others know that it runs. */
static void tell(const char *path)
{
	FILE *file = fopen(path, "w");
	fprintf(file, "%d", getpid());
	fclose(file);
}

FUNCTION(hang)
{
	UNUSED;
	if (n_in)
		tell(in[0].buf);
	for (;;)
		;
}

/* Hangs, and so does a process that it starts. */
FUNCTION(hang_twice)
{
	UNUSED;
	if (fork() == 0) {
		tell(in[1].buf);
		for (;;)
			pause();
	}
	return hang(in, 1, out, n_out);
}

/* A process that goes on after this one has crashed. */
FUNCTION(crash_after_fork)
{
	int told[2];
	char byte;
	UNUSED;
	if (pipe(told))
		return 1;
	if (fork() == 0) {
		tell(in[0].buf);
		close(told[1]);
		for (;;)
			pause();
	}
	close(told[1]);
	if (read(told[0], &byte, 1))
		return 1;
	abort();
}

/* Leaves a process that belongs to no session or group of this one, as daemons do. */
FUNCTION(leave_daemon)
{
	UNUSED;
	if (fork() == 0) {
		setsid();
		if (fork() == 0) {
			tell(in[0].buf);
			for (;;)
				pause();
		}
		_exit(0);
	}
	return wait(NULL) < 0;
}

static volatile char *kept; /* or the compiler does without the memory */

FUNCTION(hog_checked)
{
	UNUSED;
	kept = malloc((size_t)10 << 30);
	return kept ? 0 : 1;
}

FUNCTION(hog_unchecked)
{
	UNUSED;
	kept = malloc((size_t)10 << 30);
	for (size_t i = 0; i < (size_t)10 << 30; i += 4096)
		kept[i] = 1;
	return 0;
}

FUNCTION(hog_by_steps)
{
	UNUSED;
	for (int i = 0; i < 10 << 10; i++) {
		kept = malloc(1 << 20);
		*kept = 1;
	}
	return 0;
}

/* Memory that the kernel does not count as this process's data. */
FUNCTION(hog_shared)
{
	UNUSED;
	size_t size = (size_t)256 << 20;
	kept = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (kept == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < size; i += 4096)
		kept[i] = 1;
	for (;;)
		pause();
}

FUNCTION(flood)
{
	UNUSED;
	for (int i = 0; i < 100000; i++)
		printf("line %d of a flood that nobody wants to read to its end\n", i);
	return 0;
}

static char path[4096];

static void *crash_later(void *nothing)
{
	tell(path);
	fopen(path, "r"); /* waits until somebody opens it for writing */
	raise(SIGBUS);
	return nothing;
}

/* Crashes in a thread, after the call: when the named pipe is opened for the second time. */
FUNCTION(crash_in_thread)
{
	pthread_t thread;
	UNUSED;
	strncpy(path, in[0].buf, sizeof(path) - 1);
	return pthread_create(&thread, NULL, crash_later, NULL);
}
