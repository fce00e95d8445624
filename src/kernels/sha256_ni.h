// SHA-256's compression function by the processor's own instructions, two messages at a time. Thread-safe.
#pragma once

#include <cstdint>

namespace sluice::kernels {

// Whether this processor has the instructions (x86 SHA extensions). Asked once.
bool HasShaInstructions();

// Takes num_blocks blocks of 64 bytes of each message into its state, eight words as FIPS 180-4 has them (a .. h). The
// pointers may be unaligned. Only where HasShaInstructions().
void CompressPair(uint32_t state_a[8], const uint8_t* a, uint32_t state_b[8], const uint8_t* b, uint64_t num_blocks);
// The same of one message.
void Compress(uint32_t state[8], const uint8_t* bytes, uint64_t num_blocks);

}  // namespace sluice::kernels
