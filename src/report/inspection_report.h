// Text and JSON of `inspect`. docs/formats/json.md describes the fields.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "verify/file_check.h"
#include "verify/inspection.h"

namespace sluice::report {

// The fields of the command's object; the caller puts "schema" before them. Text takes `columns` of a terminal; 0: as
// many as it needs.
nlohmann::ordered_json InspectionJson(const verify::Inspection& inspection);
std::string InspectionText(const verify::Inspection& inspection, size_t columns = 0);

// `inspect --tensors`: name, encoding, shape, bytes of each of `places` in the catalogue.
nlohmann::ordered_json TensorListJson(const checkpoint::Catalogue& tensors, const std::vector<size_t>& places);
std::string TensorListText(const checkpoint::Catalogue& tensors, const std::vector<size_t>& places, size_t columns = 0);

// `*` stands for any number of characters, `?` for one.
bool MatchesGlob(std::string_view text, std::string_view glob);

// Tensors beside roots that somebody stated of them.
struct RootCheck {
  std::string statement;  // the file that states them; empty: there is none
  uint64_t tensors = 0;
  struct Change {
    std::string tensor, file;  // the file that it is in; empty: of a computed tensor
  };
  std::vector<Change> changed;
};

// Why the checkpoint does not open.
struct OpenFailure {
  std::string message;  // empty: it opens
  bool corrupt =
      false;  // otherwise nothing is damaged: a folder of several models, say, or one of a kind not supported
};

// `inspect --check`.
struct CheckResult {
  verify::FileCheck files;
  RootCheck roots;
  OpenFailure failure;
  bool ok() const { return files.ok() && roots.changed.empty() && !failure.corrupt; }
};
nlohmann::ordered_json CheckJson(const CheckResult& check);
std::string CheckText(const CheckResult& check, size_t columns = 0);

}  // namespace sluice::report
