#include "verify/block_sample.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <set>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "kernels/sha256.h"

namespace sluice::verify {
namespace {

using kernels::Hash256;

constexpr std::string_view kDomain = "sluice fingerprint 1";
constexpr size_t kShaBlockBytes = 64;
constexpr double kMostDraws = 0x1p62;

// RFC 2104. Keys here are never longer than a block.
Hash256 Hmac(std::span<const uint8_t> key, std::string_view message) {
  SLUICE_CHECK(key.size() <= kShaBlockBytes);
  std::vector<uint8_t> inner(kShaBlockBytes, 0x36), outer(kShaBlockBytes, 0x5c);
  for (size_t i = 0; i < key.size(); ++i) {
    inner[i] ^= key[i];
    outer[i] ^= key[i];
  }
  inner.insert(inner.end(), message.begin(), message.end());
  const Hash256 first = kernels::HashBytes(inner);
  outer.insert(outer.end(), first.begin(), first.end());
  return kernels::HashBytes(outer);
}

// `count` distinct numbers below `limit`, each set equally likely, ascending: Floyd's algorithm.
std::vector<uint64_t> DrawDistinct(uint64_t count, uint64_t limit, KeyedStream* stream) {
  std::vector<uint64_t> drawn;
  drawn.reserve(count);
  if (count == limit) {
    for (uint64_t i = 0; i < limit; ++i) drawn.push_back(i);
    return drawn;
  }
  std::set<uint64_t> chosen;
  for (uint64_t last = limit - count; last < limit; ++last) {
    if (!chosen.insert(stream->Below(last + 1)).second) chosen.insert(last);
  }
  drawn.assign(chosen.begin(), chosen.end());
  return drawn;
}

}  // namespace

Result<void> CheckAim(const SampleAim& aim) {
  const auto is_share = [](double x) { return x > 0 && x < 1; };
  if (!is_share(aim.detect)) {
    return Fail(ErrorCode::kUsage, fmt::format("--detect {}: want a share above 0 and below 1", aim.detect));
  }
  if (!is_share(aim.confidence)) {
    return Fail(ErrorCode::kUsage, fmt::format("--confidence {}: want a share above 0 and below 1", aim.confidence));
  }
  return {};
}

Result<Nonce> ParseNonce(std::string_view hex) {
  Nonce nonce;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  bool good = hex.size() == 32 || hex.size() == 64;
  for (size_t i = 0; good && i < hex.size(); i += 2) {
    const int high = digit(hex[i]), low = digit(hex[i + 1]);
    good = high >= 0 && low >= 0;
    nonce.push_back(static_cast<uint8_t>(high * 16 + low));
  }
  if (!good) {
    return Fail(ErrorCode::kUsage,
                fmt::format("'{}' is no nonce: want 32 or 64 hexadecimal digits (openssl rand -hex 16)",
                            hex.size() <= 80 ? hex : hex.substr(0, 80)));
  }
  return nonce;
}

Result<Nonce> RandomNonce() {
  Nonce nonce(16);
  if (getrandom(nonce.data(), nonce.size(), 0) != static_cast<ssize_t>(nonce.size())) {
    return Fail(ErrorCode::kRead,
                fmt::format("the system gives no randomness ({}); give --nonce", std::strerror(errno)));
  }
  return nonce;
}

std::string NonceText(const Nonce& nonce) {
  std::string text;
  for (const uint8_t byte : nonce) text += fmt::format("{:02x}", byte);
  return text;
}

uint64_t CountBlocks(uint64_t num_elements) { return CeilDiv(num_elements, kSampleBlockElements); }

uint64_t DrawsFor(const SampleAim& aim) {
  const double draws = std::ceil(std::log1p(-aim.confidence) / std::log1p(-aim.detect));
  return static_cast<uint64_t>(std::clamp(draws, 1.0, kMostDraws));
}

BlockSample DrawBlocks(std::span<const Stratum> strata, const Nonce& nonce, const SampleAim& aim) {
  BlockSample sample;
  sample.num_draws = DrawsFor(aim);
  for (const Stratum& stratum : strata) sample.num_blocks += CountBlocks(stratum.num_elements);
  for (const Stratum& stratum : strata) {
    BlockSample::Drawn& drawn = sample.strata.emplace_back();
    drawn.num_blocks = CountBlocks(stratum.num_elements);
    if (drawn.num_blocks == 0) continue;
    const auto product = static_cast<unsigned __int128>(sample.num_draws) * drawn.num_blocks;
    const auto share = (product + sample.num_blocks - 1) / sample.num_blocks;
    const uint64_t count = share < drawn.num_blocks ? static_cast<uint64_t>(share) : drawn.num_blocks;
    KeyedStream stream(nonce, kDomain, stratum.name);
    drawn.blocks = DrawDistinct(count, drawn.num_blocks, &stream);
    sample.num_drawn += count;
  }
  return sample;
}

KeyedStream::KeyedStream(const Nonce& nonce, std::string_view domain, std::string_view name) {
  const Hash256 key = Hmac(nonce, std::string(domain) + '\0' + std::string(name));
  std::memcpy(key_and_counter_, key.data(), key.size());
}

uint64_t KeyedStream::Next() {
  if (used_ == 4) {
    for (int i = 0; i < 8; ++i) key_and_counter_[32 + i] = static_cast<uint8_t>(counter_ >> (8 * i));
    ++counter_;
    const Hash256 hash = kernels::HashBytes(key_and_counter_);
    for (int word = 0; word < 4; ++word) {
      words_[word] = 0;
      for (int i = 0; i < 8; ++i) words_[word] |= uint64_t{hash[static_cast<size_t>(8 * word + i)]} << (8 * i);
    }
    used_ = 0;
  }
  return words_[used_++];
}

uint64_t KeyedStream::Below(uint64_t limit) {
  SLUICE_CHECK(limit > 0);
  const uint64_t excess = (0 - limit) % limit;  // 2^64 mod limit: so many words at the end would favour small numbers
  for (;;) {
    const uint64_t word = Next();
    if (word < 0 - excess || excess == 0) return word % limit;
  }
}

}  // namespace sluice::verify
