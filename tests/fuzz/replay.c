/* Runs a harness with the files that it is given, and those in the directories it is given. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness.h"

static void run_file(const char *path)
{
    static uint8_t data[1 << 20];
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    size_t size = fread(data, 1, sizeof(data), file);
    fclose(file);
    /* A block of its own, so that the sanitizer sees who reads behind its end. */
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        exit(2);
    for (size_t n = 0; n < size; n++)
        copy[n] = data[n];
    fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static int run_directory(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    char name[4096];
    int count = 0;
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        run_file(name);
        count++;
    }
    closedir(directory);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;
    LLVMFuzzerInitialize(&argc, &argv);
    for (int n = 1; n < argc; n++) {
        DIR *directory = opendir(argv[n]);
        if (directory) {
            closedir(directory);
            count += run_directory(argv[n]);
        } else {
            run_file(argv[n]);
            count++;
        }
    }
    printf("%d inputs\n", count);
    return 0;
}
