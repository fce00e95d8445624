#include "verify/block_sample.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace sluice::verify {
namespace {

Nonce NonceOf(uint64_t number) {
  Nonce nonce(16);
  for (int i = 0; i < 8; ++i) nonce[i] = static_cast<uint8_t>(number >> (8 * i));
  return nonce;
}

// A model of 26 layers in miniature: matrices, norms of less than a block, an embedding.
std::vector<Stratum> SmallModel() {
  std::vector<Stratum> strata = {{"model.embed_tokens.weight", 2048 * 3000}, {"model.norm.weight", 576}};
  for (int layer = 0; layer < 26; ++layer) {
    for (const auto& [name, blocks] : std::map<std::string, uint64_t>{{"q_proj", 60},
                                                                      {"k_proj", 20},
                                                                      {"v_proj", 20},
                                                                      {"o_proj", 60},
                                                                      {"gate_proj", 160},
                                                                      {"up_proj", 160},
                                                                      {"down_proj", 160}}) {
      strata.push_back({fmt::format("model.layers.{}.{}.weight", layer, name), 2048 * blocks});
    }
    strata.push_back({fmt::format("model.layers.{}.input_layernorm.weight", layer), 576});
  }
  return strata;
}

TEST(BlockSampleTest, DrawsAreThoseOfTheFormula) {
  EXPECT_EQ(DrawsFor({.detect = 0.001, .confidence = 0.99}), 4603u);  // ln 0.01 / ln 0.999 = 4602.87
  EXPECT_EQ(DrawsFor({.detect = 0.01, .confidence = 0.99}), 459u);
  EXPECT_EQ(DrawsFor({.detect = 0.5, .confidence = 0.5}), 1u);
  EXPECT_EQ(DrawsFor({.detect = 1e-300, .confidence = 0.99}), uint64_t{1} << 62);
}

TEST(BlockSampleTest, EachStratumGetsItsShareOfDistinctBlocks) {
  const std::vector<Stratum> strata = SmallModel();
  const BlockSample sample = DrawBlocks(strata, NonceOf(1), {.detect = 0.01, .confidence = 0.99});
  ASSERT_EQ(sample.strata.size(), strata.size());
  uint64_t all = 0, drawn = 0;
  for (const Stratum& stratum : strata) all += (stratum.num_elements + 2047) / 2048;
  EXPECT_EQ(sample.num_blocks, all);
  for (size_t i = 0; i < strata.size(); ++i) {
    const BlockSample::Drawn& one = sample.strata[i];
    EXPECT_EQ(one.num_blocks, (strata[i].num_elements + 2047) / 2048);
    const auto share =
        static_cast<uint64_t>(std::ceil(459.0 * static_cast<double>(one.num_blocks) / static_cast<double>(all)));
    EXPECT_EQ(one.blocks.size(), std::min(one.num_blocks, share)) << strata[i].name;
    EXPECT_EQ(std::ranges::adjacent_find(one.blocks, std::ranges::greater_equal{}), one.blocks.end());
    EXPECT_LT(one.blocks.back(), one.num_blocks);
    drawn += one.blocks.size();
  }
  EXPECT_EQ(sample.num_drawn, drawn);
  EXPECT_FALSE(sample.IsCensus());
  EXPECT_TRUE(DrawBlocks(strata, NonceOf(1), {.detect = 1e-9, .confidence = 0.99}).IsCensus());
}

TEST(BlockSampleTest, DrawsHangOnNonceAndNameAndNotOnTheOrder) {
  std::vector<Stratum> strata = SmallModel();
  const SampleAim aim{.detect = 0.01, .confidence = 0.99};
  const BlockSample one = DrawBlocks(strata, NonceOf(1), aim), again = DrawBlocks(strata, NonceOf(1), aim);
  const BlockSample other = DrawBlocks(strata, NonceOf(2), aim);
  EXPECT_EQ(one.strata[0].blocks, again.strata[0].blocks);
  EXPECT_NE(one.strata[0].blocks, other.strata[0].blocks);
  std::ranges::reverse(strata);
  EXPECT_EQ(DrawBlocks(strata, NonceOf(1), aim).strata.back().blocks, one.strata[0].blocks);
  // Two tensors of one size are drawn from apart.
  const std::vector<Stratum> twins = {{"a", 2048 * 1000}, {"b", 2048 * 1000}};
  const BlockSample drawn = DrawBlocks(twins, NonceOf(1), aim);
  EXPECT_NE(drawn.strata[0].blocks, drawn.strata[1].blocks);
}

// The positions are a promise to fingerprints that were kept: docs/formats/fingerprint.md, computed there by Python's
// hmac and hashlib, as tests/fingerprint_file.py does.
TEST(BlockSampleTest, PositionsAreThoseOfTheSpecification) {
  KeyedStream stream(*ParseNonce("000102030405060708090a0b0c0d0e0f"), "sluice fingerprint 1", "model.norm.weight");
  EXPECT_EQ(stream.Next(), 0x99aefd0f950d3b6cu);
  const std::vector<Stratum> one = {{"model.norm.weight", 2048 * 1000}};
  const BlockSample sample = DrawBlocks(one, *ParseNonce("000102030405060708090a0b0c0d0e0f"), {.detect = 0.65});
  EXPECT_EQ(sample.strata[0].blocks, (std::vector<uint64_t>{132, 161, 268, 931, 947}));
}

TEST(BlockSampleTest, NoncesAreHexadecimal) {
  EXPECT_EQ(NonceText(*ParseNonce("00FFab0000000000000000000000000e")), "00ffab0000000000000000000000000e");
  EXPECT_EQ(ParseNonce(std::string(64, '7'))->size(), 32u);
  for (const std::string bad : {"", "00", "0g000000000000000000000000000000", "0000000000000000000000000000000 "}) {
    const auto nonce = ParseNonce(bad);
    ASSERT_FALSE(nonce.has_value());
    EXPECT_EQ(nonce.error().code, ErrorCode::kUsage);
  }
  EXPECT_NE(*RandomNonce(), *RandomNonce());
  for (const double bad : {0.0, 1.0, -0.1, 2.0, std::nan("")}) {
    EXPECT_FALSE(CheckAim({.detect = bad}).has_value());
    EXPECT_FALSE(CheckAim({.confidence = bad}).has_value());
  }
}

TEST(BlockSampleTest, BelowIsUniform) {
  KeyedStream stream(NonceOf(5), "test", "x");
  constexpr int kLimit = 7, kDraws = 70000;
  std::array<int, kLimit> counts{};
  for (int i = 0; i < kDraws; ++i) ++counts[stream.Below(kLimit)];
  double chi = 0;
  for (const int count : counts) chi += (count - 10000.0) * (count - 10000.0) / 10000.0;
  EXPECT_LT(chi, 33.1);  // 6 degrees of freedom: 1 in 100,000
}

// ---------------------------------------------------------------------------------------------------------------------
// Simulation: thousands of tampered copies, each with a nonce of its own. The stated probability is a lower bound; the
// exact one of a given set of blocks is 1 - prod C(N_h - d_h, n_h) / C(N_h, n_h), and what is counted must be that
// within its binomial error.

class Tampering {
 public:
  explicit Tampering(const std::vector<Stratum>& strata) {
    for (size_t i = 0; i < strata.size(); ++i) {
      for (uint64_t block = 0; block < CountBlocks(strata[i].num_elements); ++block) all_.emplace_back(i, block);
    }
  }
  size_t num_blocks() const { return all_.size(); }

  using Blocks = std::set<std::pair<size_t, uint64_t>>;
  Blocks AtRandom(size_t count, std::mt19937_64* generator) const {
    Blocks some;
    while (some.size() < count) some.insert(all_[(*generator)() % all_.size()]);
    return some;
  }
  const std::vector<std::pair<size_t, uint64_t>>& all() const { return all_; }

 private:
  std::vector<std::pair<size_t, uint64_t>> all_;
};

bool Hits(const BlockSample& sample, const Tampering::Blocks& tampered) {
  return std::ranges::any_of(tampered, [&](const auto& place) {
    return std::ranges::binary_search(sample.strata[place.first].blocks, place.second);
  });
}

double ExactDetection(const BlockSample& sample, const Tampering::Blocks& tampered) {
  std::map<size_t, uint64_t> per_stratum;
  for (const auto& [stratum, block] : tampered) ++per_stratum[stratum];
  const auto log_choose = [](double n, double k) {
    return std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1);
  };
  double log_missed = 0;
  for (const auto& [stratum, d] : per_stratum) {
    const auto N = static_cast<double>(sample.strata[stratum].num_blocks);
    const auto n = static_cast<double>(sample.strata[stratum].blocks.size());
    if (static_cast<double>(d) + n > N) return 1;
    log_missed += log_choose(N - static_cast<double>(d), n) - log_choose(N, n);
  }
  return 1 - std::exp(log_missed);
}

struct Row {
  std::string attack;
  double share = 0, stated = 0, exact = 0, seen = 0, error = 0;
};

void PrintRow(const Row& row) {
  fmt::print("| {} | {:.3g}% | {:.2f}% | {:.2f}% | {:.2f}% ± {:.2f}% |\n", row.attack, 100 * row.share,
             100 * row.stated, 100 * row.exact, 100 * row.seen, 100 * row.error);
}

class SimulationTest : public testing::Test {
 protected:
  static constexpr SampleAim kAim{.detect = 0.01, .confidence = 0.99};
  static constexpr int kCopies = 4000;

  // `tamper`: the blocks of a copy, made before its nonce is drawn.
  template <class Tamper>
  void Attack(const std::string& name, Tamper tamper) {
    Row row{.attack = name};
    int found = 0;
    double shares = 0, exact = 0, worst_margin = 1;
    for (int copy = 0; copy < kCopies; ++copy) {
      const Tampering::Blocks tampered = tamper(copy);
      const BlockSample sample = DrawBlocks(strata_, NonceOf(next_nonce_++), kAim);
      const double share = static_cast<double>(tampered.size()) / static_cast<double>(all_.num_blocks());
      const double stated = 1 - std::pow(1 - share, static_cast<double>(sample.num_draws));
      const double probability = ExactDetection(sample, tampered);
      worst_margin = std::min(worst_margin, probability - stated);
      row.stated += stated / kCopies;
      exact += probability / kCopies;
      shares += share / kCopies;
      found += Hits(sample, tampered) ? 1 : 0;
    }
    row.share = shares;
    row.exact = exact;
    row.seen = static_cast<double>(found) / kCopies;
    row.error = std::sqrt(exact * (1 - exact) / kCopies);
    PrintRow(row);
    // The bound holds for each copy, and what is seen is what was computed: 4.4 standard errors are 1 in 100,000. Near
    // certainty the error is no normal one: then at most that many misses as a Poisson of that mean has at 1e-5.
    EXPECT_GE(worst_margin, -1e-9) << name;
    const double misses = (1 - exact) * kCopies;
    EXPECT_NEAR(static_cast<double>(found), exact * kCopies, 4.4 * std::sqrt(misses * exact) + 6) << name;
    EXPECT_GE(row.seen, row.stated - 4.4 * std::sqrt(row.stated * (1 - row.stated) / kCopies) - 6.0 / kCopies) << name;
  }

  const std::vector<Stratum> strata_ = SmallModel();
  const Tampering all_{strata_};
  std::mt19937_64 generator_{20240607};
  uint64_t next_nonce_ = 1;
};

TEST_F(SimulationTest, ReprintsTheTableOfTheDocs) {
  const size_t blocks = all_.num_blocks();
  fmt::print("| tampered blocks | share | stated, at least | exact | found in {} copies |\n|---|---|---|---|---|\n",
             kCopies);
  for (const double share : {0.0005, 0.002, 0.005, 0.01}) {
    const auto count = static_cast<size_t>(std::ceil(share * static_cast<double>(blocks)));
    Attack(fmt::format("{} at random", count), [&](int) { return all_.AtRandom(count, &generator_); });
  }
  // One tensor whole: a matrix of 160 blocks, of 20, a norm.
  for (const char* name : {"model.layers.7.up_proj.weight", "model.layers.7.k_proj.weight", "model.norm.weight"}) {
    const size_t stratum = std::ranges::find(strata_, name, &Stratum::name) - strata_.begin();
    Attack(std::string("all of ") + name, [&](int) {
      Tampering::Blocks tampered;
      for (const auto& place : all_.all()) {
        if (place.first == stratum) tampered.insert(place);
      }
      return tampered;
    });
  }
  // One row of 576 elements lies in one block or in two.
  Attack("one row of a matrix", [&](int copy) {
    const size_t stratum = std::ranges::find(strata_, "model.layers.3.q_proj.weight", &Stratum::name) - strata_.begin();
    const uint64_t row = static_cast<uint64_t>(copy) % (strata_[stratum].num_elements / 576);
    return Tampering::Blocks{{stratum, row * 576 / 2048}, {stratum, (row * 576 + 575) / 2048}};
  });
  // Who knows all but the nonce: draws with 300 nonces of his own and takes the blocks that came least often.
  Attack("1% that came least with 300 other nonces",
         [&, chosen = std::optional<Tampering::Blocks>()](int copy) mutable {
           if (copy % 500 == 0) {
             std::map<std::pair<size_t, uint64_t>, int> times;
             for (const auto& place : all_.all()) times[place] = 0;
             for (int guess = 0; guess < 300; ++guess) {
               const BlockSample sample = DrawBlocks(strata_, NonceOf(uint64_t{1} << 40 | generator_() >> 32), kAim);
               for (size_t i = 0; i < sample.strata.size(); ++i) {
                 for (const uint64_t block : sample.strata[i].blocks) ++times[{i, block}];
               }
             }
             auto places = all_.all();
             std::ranges::shuffle(places, generator_);
             std::ranges::stable_sort(places, {}, [&](const auto& place) { return times[place]; });
             chosen.emplace(places.begin(), places.begin() + static_cast<ptrdiff_t>(blocks / 100 + 1));
           }
           return *chosen;
         });
  // ... or takes them where the smallest share of a tensor is drawn.
  auto by_rate = all_.all();
  std::ranges::shuffle(by_rate, generator_);
  const BlockSample any = DrawBlocks(strata_, NonceOf(0), kAim);
  std::ranges::stable_sort(by_rate, {}, [&](const auto& place) {
    const BlockSample::Drawn& drawn = any.strata[place.first];
    return static_cast<double>(drawn.blocks.size()) / static_cast<double>(drawn.num_blocks);
  });
  const Tampering::Blocks rarest(by_rate.begin(), by_rate.begin() + static_cast<ptrdiff_t>(blocks / 100 + 1));
  Attack("1% where the least is drawn", [&](int) { return rarest; });
}

// Why the nonce must come after the commitment: with it, nothing is ever found.
TEST_F(SimulationTest, WhoKnowsTheNonceIsNeverFound) {
  const BlockSample sample = DrawBlocks(strata_, NonceOf(77), kAim);
  Tampering::Blocks tampered;
  for (const auto& place : all_.all()) {
    if (!std::ranges::binary_search(sample.strata[place.first].blocks, place.second)) tampered.insert(place);
  }
  EXPECT_GT(tampered.size(), all_.num_blocks() / 2);
  EXPECT_FALSE(Hits(sample, tampered));
}

}  // namespace
}  // namespace sluice::verify
