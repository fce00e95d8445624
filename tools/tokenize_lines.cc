// tokenize_lines FILE [--parse-special] [--add-special] [--skip-special]: many texts through one tokenizer, for tests
// that compare with other implementations.
//
// Each line of stdin is a JSON string, a text to encode, or a JSON array, ids to decode. Each line of stdout is the
// answer: an array of ids, a string of hexadecimal digits (the bytes), or an object with "error".
#include <cstdio>
#include <iostream>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tokenizer/open_tokenizer.h"

int main(int argc, char** argv) {
  using namespace sluice;
  tokenizer::EncodeOptions options;
  bool skip_special = false;
  std::string file;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--parse-special") {
      options.parse_special = true;
    } else if (argument == "--add-special") {
      options.add_special = true;
    } else if (argument == "--skip-special") {
      skip_special = true;
    } else {
      file = argument;
    }
  }
  const auto opened = tokenizer::OpenTokenizerFile(file);
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().ToString().c_str());
    return ExitStatus(opened.error().code);
  }
  const auto tell = [](const Error& error) {
    nlohmann::json answer;
    answer["error"] = error.ToString();
    std::cout << answer.dump() << '\n';
  };
  for (std::string line; std::getline(std::cin, line);) {
    const auto request = nlohmann::json::parse(line, nullptr, false);
    if (request.is_string()) {
      const auto ids = (*opened)->Encode(request.get<std::string>(), options);
      ids ? void(std::cout << nlohmann::json(*ids).dump() << '\n') : tell(ids.error());
    } else if (request.is_array()) {
      const auto text = (*opened)->Decode(request.get<std::vector<uint32_t>>(), skip_special);
      if (!text) {
        tell(text.error());
        continue;
      }
      std::cout << '"';
      for (const char byte : *text) std::cout << fmt::format("{:02x}", static_cast<uint8_t>(byte));
      std::cout << "\"\n";
    } else {
      std::fprintf(stderr, "tokenize_lines: not a JSON string or array: %s\n", line.c_str());
      return 2;
    }
  }
  return 0;
}
