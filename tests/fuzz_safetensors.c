/* Any bytes as a safetensors file: opened or refused; every byte of every tensor of what was opened can be read. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    atv_ctx *ctx = fuzz_ctx();
    atv_safetensors *file = NULL;
    atv_result r = atv_safetensors_from_memory(ctx, data, size, &file);
    if (r == ATV_OK) {
        int i, n = atv_safetensors_count(file);
        unsigned sum = 0;
        for (i = 0; i < n; i++) {
            atv_named_tensor t = atv_safetensors_tensor(file, i);
            size_t bytes = (size_t)atv_tensor_count(&t.tensor) * atv_dtype_size(t.tensor.dtype), k;
            int found = atv_safetensors_find(file, t.name);
            FUZZ_CHECK(found >= 0 && found < n && strcmp(atv_safetensors_tensor(file, found).name, t.name) == 0);
            FUZZ_CHECK(bytes <= size);
            for (k = 0; k < bytes; k++) sum += ((const uint8_t *)t.tensor.data)[k];
        }
        FUZZ_CHECK(atv_safetensors_find(file, "no such tensor") < 0);
        atv_safetensors_metadata(file, "format");
        atv_safetensors_close(file);
        if (sum == 0xFFFFFFFFu) fputs("", stderr);
    }
    fuzz_done(ctx, r);
    return 0;
}

#ifndef ATTNVAR_LIBFUZZER
static void seed(const char *header, size_t data) {
    uint8_t file[1024] = { 0 };
    size_t n = strlen(header), i;
    file[0] = (uint8_t)n;
    file[1] = (uint8_t)(n >> 8);
    memcpy(file + 8, header, n);
    for (i = 0; i < data; i++) file[8 + n + i] = (uint8_t)i;
    fuzz_seed(file, 8 + n + data, 4000);
}

int main(int argc, char **argv) {
    seed("{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
         "\"b\":{\"dtype\":\"BF16\",\"shape\":[5],\"data_offsets\":[24,34]},\"c\":{\"dtype\":\"I64\",\"shape\":[],"
         "\"data_offsets\":[34,42]}}", 42);
    seed("{\"x\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[0,0]},\"y\":{\"dtype\":\"F16\",\"shape\":[1,1,2,2],"
         "\"data_offsets\":[0,8]}}", 8);
    seed("{}", 0);
    seed("{\"x\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4294967296,4294967296],\"data_offsets\":[0,0]}}", 0);
    fuzz_files(argc, argv);
    return test_done("fuzz_safetensors");
}
#endif
