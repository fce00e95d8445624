// Inner products of several f32 vectors with each other, in f64: the kernel under `lineage`.
//
// Products of f32 are exact in f64, so it makes no difference to the bits whether an instruction set fuses them into
// the sums. Dispatched; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice::kernels {

constexpr size_t kMostGramVectors = 40;
constexpr size_t kGramLanes = 4;
// Of k vectors, each with itself too. Pairs (i, j), i <= j, are in the order of i, then j.
constexpr size_t GramPairs(size_t k) { return k * (k + 1) / 2; }
constexpr size_t GramPair(size_t k, size_t i, size_t j) { return i * k - i * (i + 1) / 2 + j; }

// Adds x_i[e] x_j[e] of elements e < count to lanes[pair * 4 + e % 4], in order of e: what is fed in pieces must be cut
// at multiples of 4. Any alignment; at most kMostGramVectors vectors. What is not finite makes sums that are not.
void AccumulateGram(std::span<const float* const> x, uint64_t count, double* lanes);

namespace reference {
void AccumulateGram(std::span<const float* const> x, uint64_t count, double* lanes);
}  // namespace reference

}  // namespace sluice::kernels
