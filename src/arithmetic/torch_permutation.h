// The beginning of torch.randperm(n) on a CPU: a Fisher-Yates shuffle whose first numbers need the first draws alone;
// from (2^32 - 1) / 20 numbers on the "inside-out" one, which needs all.
#pragma once

#include <cstdint>
#include <vector>

#include "arithmetic/torch_generator.h"

namespace sluice::arithmetic {

// Words of the stream that torch.randperm(n) takes.
uint64_t TorchPermutationDraws(uint64_t n);

// torch.randperm(n)[:count], the generator standing where it begins. count <= n. The generator is not moved past what
// it draws. Memory: 8 bytes for each that is wanted, and some 16 MiB for each million of them.
std::vector<uint64_t> TorchPermutation(TorchGenerator generator, uint64_t n, uint64_t count);

}  // namespace sluice::arithmetic
