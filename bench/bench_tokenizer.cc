// bench_tokenizer: how fast one thread encodes a text.
//
//   bench_tokenizer TOKENIZER TEXT [--json]      TOKENIZER: tokenizer.json, tokenizer.model or a GGUF
//
// Median of 9 runs by the thread's CPU time, each a whole Encode of the text without anything kept from the run before.
// bench/tokenizer_peer.py measures PyPI's tokenizers beside it, on the same file and text.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "io/byte_source.h"
#include "tokenizer/open_tokenizer.h"

namespace {

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

int Complain(const sluice::Error& error) {
  std::fprintf(stderr, "bench_tokenizer: %s\n", error.ToString().c_str());
  return sluice::ExitStatus(error.code);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace sluice;
  if (argc < 3) {
    std::fprintf(stderr, "usage: bench_tokenizer TOKENIZER TEXT [--json]\n");
    return 2;
  }
  const double start = CpuSeconds();
  const auto tokenizer = tokenizer::OpenTokenizerFile(argv[1]);
  if (!tokenizer) return Complain(tokenizer.error());
  const double open_seconds = CpuSeconds() - start;
  const auto text = io::ReadWholeFile(argv[2]);
  if (!text) return Complain(text.error());
  std::vector<double> seconds;
  size_t num_tokens = 0;
  for (int run = 0; run < 9; ++run) {
    const double begin = CpuSeconds();
    const auto ids = (*tokenizer)->Encode(*text);
    if (!ids) return Complain(ids.error());
    num_tokens = ids->size();
    seconds.push_back(CpuSeconds() - begin);
  }
  std::nth_element(seconds.begin(), seconds.begin() + 4, seconds.end());
  const double megabytes = static_cast<double>(text->size()) * 1e-6;
  if (argc > 3 && std::string(argv[3]) == "--json") {
    std::printf("{\"open_seconds\": %.4f, \"tokens\": %zu, \"bytes\": %zu, \"megabytes_per_second\": %.2f}\n",
                open_seconds, num_tokens, text->size(), megabytes / seconds[4]);
  } else {
    std::printf("opened in %.0f ms; %zu bytes, %zu tokens: %.1f MB/s, %.2f M tokens/s\n", open_seconds * 1e3,
                text->size(), num_tokens, megabytes / seconds[4], static_cast<double>(num_tokens) * 1e-6 / seconds[4]);
  }
  return 0;
}
