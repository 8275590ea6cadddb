// Where a GPU's time goes, for any program that uses CUDA: time by kernel, launches, copies, the share of the span in which anything ran.
// gpu.py compiles it against CUPTI and names it in CUDA_INJECTION64_PATH; the report goes to the file that PROFILE_OUT names.
#include <cupti.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The newest record of a kernel that the headers know; gpu.py names it.
#ifndef KERNEL
#define KERNEL CUpti_ActivityKernel10
#endif

#define BUFFER (8u << 20)
#define NAMES 8192
#define SHOWN 40
#define COPY_KINDS 11

typedef struct {
  char *name;
  uint64_t count, total, longest;
} Row;

static Row rows[NAMES];
static uint64_t first = UINT64_MAX, last, busy, busy_until, launches, dropped;
static uint64_t copies[COPY_KINDS], copied[COPY_KINDS], copy_time[COPY_KINDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// An open hash table by name; what finds no place is counted as launched and not listed.
static void add(const char *name, uint64_t time) {
  uint64_t hash = 1469598103934665603ull;
  for (const char *c = name; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211ull;
  for (uint64_t tried = 0; tried < NAMES; tried++) {
    Row *row = &rows[(hash + tried) % NAMES];
    if (!row->name) row->name = strdup(name);
    if (row->name && !strcmp(row->name, name)) {
      row->count++;
      row->total += time;
      if (time > row->longest) row->longest = time;
      return;
    }
  }
}

static void span(uint64_t start, uint64_t end) {
  if (start < first) first = start;
  if (end > last) last = end;
  if (end > busy_until) {
    busy += end - (start > busy_until ? start : busy_until);
    busy_until = end;
  }
}

static void CUPTIAPI wanted(uint8_t **buffer, size_t *size, size_t *most) {
  *buffer = aligned_alloc(8, BUFFER);
  *size = *buffer ? BUFFER : 0;
  *most = 0;
}

static void CUPTIAPI filled(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid) {
  (void)size;
  CUpti_Activity *record = NULL;
  pthread_mutex_lock(&lock);
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
    if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
      KERNEL *kernel = (KERNEL *)record;
      launches++;
      add(kernel->name ? kernel->name : "?", kernel->end - kernel->start);
      span(kernel->start, kernel->end);
    } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
      CUpti_ActivityMemcpy6 *copy = (CUpti_ActivityMemcpy6 *)record;
      int kind = copy->copyKind < COPY_KINDS ? copy->copyKind : 0;
      copies[kind]++;
      copied[kind] += copy->bytes;
      copy_time[kind] += copy->end - copy->start;
      span(copy->start, copy->end);
    }
  }
  size_t lost = 0;
  cuptiActivityGetNumDroppedRecords(context, stream, &lost);
  dropped += lost;
  pthread_mutex_unlock(&lock);
  free(buffer);
}

static int by_total(const void *a, const void *b) {
  uint64_t x = ((const Row *)a)->total, y = ((const Row *)b)->total;
  return x < y ? 1 : x > y ? -1 : 0;
}

static void report(void) {
  static const char *kinds[COPY_KINDS] = {"?", "host to device", "device to host", "host to array", "array to host", "array to array",
                                          "array to device", "device to array", "device to device", "host to host", "peer to peer"};
  cuptiActivityFlushAll(1);
  const char *path = getenv("PROFILE_OUT");
  FILE *out = path ? fopen(path, "w") : stderr;
  if (!out) out = stderr;
  qsort(rows, NAMES, sizeof(Row), by_total);
  uint64_t sum = 0;
  for (int i = 0; i < NAMES; i++) sum += rows[i].total;
  uint64_t whole = last > first ? last - first : 0;
  fprintf(out, "span %.3f s, busy %.3f s (%.1f %%), kernels %.3f s in %llu launches, %llu records dropped\n", whole / 1e9, busy / 1e9,
          whole ? 100.0 * busy / whole : 0.0, sum / 1e9, (unsigned long long)launches, (unsigned long long)dropped);
  for (int i = 0; i < COPY_KINDS; i++)
    if (copies[i])
      fprintf(out, "copies %s: %llu, %.1f MB, %.3f s\n", kinds[i], (unsigned long long)copies[i], copied[i] / 1e6, copy_time[i] / 1e9);
  for (int i = 0; i < SHOWN && rows[i].count; i++)
    fprintf(out, "%6.2f %% %9.3f ms %8llu x %9.1f us (longest %.1f)  %.150s\n", 100.0 * rows[i].total / sum, rows[i].total / 1e6,
            (unsigned long long)rows[i].count, rows[i].total / 1e3 / rows[i].count, rows[i].longest / 1e3, rows[i].name);
  if (out != stderr) fclose(out);
}

int InitializeInjection(void) {
  cuptiActivityRegisterCallbacks(wanted, filled);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
  atexit(report);
  return 1;
}
