// Listing: what lies in a folder, and how errors and problems speak of it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::checkpoint {

struct Listing {
  std::string path;                                          // "." for the working directory
  std::map<std::string, uint64_t, std::less<>> size_bytes;   // regular files, links followed, by name
  std::map<std::string, std::string, std::less<>> dangling;  // links that lead nowhere -> what they name
  std::vector<std::string> unfinished;                       // leftovers of downloads that were broken off

  bool Has(std::string_view name) const { return size_bytes.find(name) != size_bytes.end(); }
  std::string PathOf(std::string_view name) const;
  std::vector<std::string> Where(auto wanted) const {
    std::vector<std::string> names;
    for (const auto& [name, size] : size_bytes) {
      if (wanted(std::string_view(name))) names.push_back(name);
    }
    return names;
  }
  std::vector<std::string> EndingIn(std::string_view ending) const {
    return Where([&](std::string_view name) { return name.ends_with(ending); });
  }
  uint64_t Bytes(const std::vector<std::string>& names) const;
};

// Reads the folder, and of a hub cache's snapshot or a folder that `hf download --local-dir` filled the place where its
// unfinished downloads lie. kNotFound or kRead where the folder cannot be listed.
Result<Listing> ListFolder(const std::string& path);

// "a, b, c and 4 more", printable.
std::string JoinNames(const std::vector<std::string>& names, size_t most = 3);

// What is known of why `missing` files are not there, and how to get them: "; fetch the missing files with `...`".
std::string MissingAdvice(const Listing& folder, const std::vector<std::string>& missing);

}  // namespace sluice::checkpoint
