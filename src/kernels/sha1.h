// SHA-1 by libcrypto, for what git names by it. Proves nothing against somebody who wants to deceive.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace sluice::kernels {

using Hash160 = std::array<uint8_t, 20>;

// Streaming. Not thread-safe.
class Sha1 {
 public:
  Sha1();
  ~Sha1();
  Sha1(const Sha1&) = delete;
  void Update(std::span<const uint8_t> bytes);
  Hash160 Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// As git begins the hash of a file's content of this size: "blob SIZE" and a zero byte.
std::string GitBlobHeader(uint64_t size_bytes);

std::string ToHex(const Hash160& hash);

}  // namespace sluice::kernels
