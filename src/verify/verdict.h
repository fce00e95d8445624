// The words in which a verification answers, what each of them proves, and the exit status that goes with it.
//
// A cheaper level never borrows the words of a dearer one: "identical" belongs to a level that read every byte.
#pragma once

#include <string>
#include <string_view>

#include "verify/config_diff.h"
#include "verify/sample_result.h"
#include "verify/tensor_diff.h"

namespace sluice::verify {

enum class Level {
  kAuto,         // config, fingerprint, tensors, until a difference is found or all is read
  kConfig,       // headers and JSON
  kFingerprint,  // drawn blocks
  kTensors,      // every byte
  kBehaviour,    // what both compute, on challenges
};

enum class Verdict {
  kIdentical,                         // equal model roots                                            exit 0
  kEqualAfterCast,                    // same config and tokenizer; weights equal as numbers          exit 0
  kRounded,                           // one side is the rounding of the other                        exit 1
  kSameWeights,                       // equal weights under another config or tokenizer              exit 1
  kSameArchitectureDifferentWeights,  //                                                              exit 1
  kDifferentArchitecture,             // other tensors, shapes, or keys that change the forward pass  exit 1
  kSameSample,                        // equal in all parts that were drawn and looked at              exit 0
  kDifferentFiles,                    // files are not those of a signature                           exit 1
  kSameConfig,                        // all that the level `config` may say of equals                exit 0
  kSameBehaviour,                     // the mean score of challenges is below gamma                  exit 0
  kDifferentBehaviour,                // ... is above it                                              exit 1
  kInvalid,                           // challenges could not be asked, or scored                     exit 3
  kUndecided,                         // the level asked for cannot tell                              exit 5
};

const char* VerdictName(Verdict verdict);  // "IDENTICAL", ...
const char* LevelName(Level level);        // "auto", ...
int VerdictExitStatus(Verdict verdict);

// The level `config`: a tokenizer or a key that differs is an answer of DIFFERENT_ARCHITECTURE here, as this level has
// no word for it and must not speak of weights; the table below the verdict says which.
Verdict DecideConfig(const ConfigDiff& config);

// Whether `auto` ends at the level `config`: another architecture is a difference that no weight can mend.
bool ConfigEndsAuto(const ConfigDiff& config);

// The level `fingerprint`: headers and drawn blocks. As at the level `config` there is no word for a tokenizer or a key
// that differs but DIFFERENT_ARCHITECTURE. UNDECIDED where a rounding explains, or may explain, all that differs.
Verdict DecideFingerprint(const ConfigDiff& config, const SampleResult& sample);

// Whether `auto` ends at the level `fingerprint`: at a difference that no rounding explains. Equal blocks prove no
// equality, and only who has read every byte may say ROUNDED or EQUAL_AFTER_CAST.
bool SampleEndsAuto(const SampleResult& sample);

// The level `tensors`, which has read every byte (or, with stopped_early, up to the first difference).
Verdict DecideTensors(const ConfigDiff& config, const TensorSummary& tensors);

// What the verdict says for certain, and what it leaves open; one sentence each. Of the level `behaviour` see
// behaviour/behaviour_result.h, which has the numbers.
std::string Proves(Verdict verdict, Level level);
std::string DoesNotProve(Verdict verdict, Level level);

}  // namespace sluice::verify
