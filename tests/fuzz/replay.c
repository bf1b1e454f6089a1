/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target on a corpus without libFuzzer: for coverage, and for how fast it is. replay SECONDS FOLDER...: all inputs once, and
 * over and over until that much processor time is spent.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUTS_MAX 65536u
#define INPUT_BYTES_MAX 65536u

static struct {
	uint8_t *data;
	size_t size;
} inputs[INPUTS_MAX];
static size_t input_count;

static void load_file(const char *path)
{
	static uint8_t bytes[INPUT_BYTES_MAX];
	FILE *file = fopen(path, "rb");
	size_t size;

	if (!file)
		return;
	size = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	if (!size || input_count == INPUTS_MAX)
		return;
	/* Exactly as long: what reads behind it is found. */
	inputs[input_count].data = malloc(size);
	if (!inputs[input_count].data)
		abort();
	memcpy(inputs[input_count].data, bytes, size);
	inputs[input_count++].size = size;
}

static void load_folder(const char *path)
{
	char name[4096];
	DIR *folder = opendir(path);
	const struct dirent *entry;

	while (folder && (entry = readdir(folder))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		load_file(name);
	}
	if (folder)
		closedir(folder);
}

static double seconds_spent(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double wanted = argc > 1 ? atof(argv[1]) : 0, start, spent;
	uint64_t rounds = 0;

	for (int i = 2; i < argc; i++)
		load_folder(argv[i]);
	if (!input_count) {
		fprintf(stderr, "replay: no inputs\n");
		return 1;
	}
	start = seconds_spent();
	do {
		for (size_t i = 0; i < input_count; i++)
			LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].size);
		rounds++;
		spent = seconds_spent() - start;
	} while (spent < wanted);
	printf("replay: %zu inputs, %llu times, %.3f s\n", input_count, (unsigned long long)rounds, spent);
	return 0;
}
