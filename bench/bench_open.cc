// What opening a folder of many shards takes at the least: its index and headers read, and their JSON pulled through
// the reader that sluice uses, nothing kept. Prints one JSON object.
//
//   bench_open FOLDER
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "formats/json_reader.h"
#include "formats/safetensors.h"
#include "io/byte_source.h"

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

int Fail(const std::string& message) {
  fmt::print(stderr, "bench_open: {}\n", message);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return Fail("usage: bench_open FOLDER");
  std::vector<std::string> texts;
  uint64_t bytes = 0, files = 0;
  const Clock::time_point started = Clock::now();
  std::error_code error;
  for (fs::directory_iterator entries(argv[1], error); !error && entries != fs::directory_iterator();
       entries.increment(error)) {
    const std::string path = entries->path().string();
    if (path.ends_with(".index.json")) {
      auto text = sluice::io::ReadWholeFile(path);
      if (!text) return Fail(text.error().ToString());
      texts.push_back(std::move(*text));
    } else if (path.ends_with(".safetensors")) {
      const auto source = sluice::io::OpenFile(path);
      if (!source) return Fail(source.error().ToString());
      std::string text(8, '\0');
      const auto span = [&] { return std::span<uint8_t>(reinterpret_cast<uint8_t*>(text.data()), text.size()); };
      if (!(*source)->Read(0, span())) return Fail(path);
      text.resize(sluice::formats::SafetensorsHeaderBytes(text));
      if (!(*source)->Read(8, span())) return Fail(path);
      texts.push_back(std::move(text));
    } else {
      continue;
    }
    ++files;
    bytes += texts.back().size();
  }
  if (error) return Fail(error.message());
  const double reading = Since(started);
  const Clock::time_point parsing = Clock::now();
  for (const std::string& text : texts) {
    sluice::formats::JsonReader json(text);
    if (!json.Skip() || !json.End()) return Fail(json.message());
  }
  fmt::print("{{\"files\": {}, \"bytes\": {}, \"read_seconds\": {:.4f}, \"parse_seconds\": {:.4f}}}\n", files, bytes,
             reading, Since(parsing));
  return 0;
}
