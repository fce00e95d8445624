#include "merge/diagnostics.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::merge {
namespace {

// Damerau and Levenshtein's distance (optimal string alignment): edits and swaps of neighbours, each counted once.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

constexpr size_t kMaxMessageBytes = 2000;
constexpr size_t kMaxErrors = 100;

// What a recipe says goes to a terminal in these messages: on one line, of bounded length, without control characters.
std::string Tame(std::string message) {
  if (message.size() > kMaxMessageBytes) {
    message.resize(kMaxMessageBytes);
    message += "...";
  }
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return message;
}

}  // namespace

void Diagnostics::AddError(Mark mark, std::string message, ErrorCode code) {
  all_.push_back({Diagnostic::Severity::kError, code, mark, Tame(std::move(message))});
}
void Diagnostics::AddWarning(Mark mark, std::string message) {
  all_.push_back({Diagnostic::Severity::kWarning, ErrorCode::kRecipe, mark, Tame(std::move(message))});
}
void Diagnostics::AddNote(Mark mark, std::string message) {
  all_.push_back({Diagnostic::Severity::kNote, ErrorCode::kRecipe, mark, Tame(std::move(message))});
}

bool Diagnostics::has_errors() const {
  return std::any_of(all_.begin(), all_.end(),
                     [](const Diagnostic& d) { return d.severity == Diagnostic::Severity::kError; });
}

std::string Diagnostics::Line(const Diagnostic& diagnostic) const {
  if (diagnostic.mark.line == 0) return fmt::format("{}: {}", file_, diagnostic.message);
  return fmt::format("{}:{}:{}: {}", file_, diagnostic.mark.line, diagnostic.mark.column, diagnostic.message);
}

Error Diagnostics::ToError() const {
  std::vector<const Diagnostic*> errors;
  for (const Diagnostic& diagnostic : all_) {
    if (diagnostic.severity == Diagnostic::Severity::kError) errors.push_back(&diagnostic);
  }
  SLUICE_CHECK(!errors.empty());
  std::stable_sort(errors.begin(), errors.end(),
                   [](const Diagnostic* a, const Diagnostic* b) { return a->mark < b->mark; });
  const auto is_input = [](const Diagnostic* d) {
    return d->code == ErrorCode::kCorrupt || d->code == ErrorCode::kRead || d->code == ErrorCode::kCancelled;
  };
  if (std::all_of(errors.begin(), errors.end(), is_input)) {
    Error error{errors.front()->code, Line(*errors.front()), {}};
    for (size_t i = 1; i < errors.size(); ++i) error.message += "; " + Line(*errors[i]);
    return error;
  }
  Error error{ErrorCode::kRecipe,
              fmt::format("{} {} in {}", errors.size(), errors.size() == 1 ? "error" : "errors", file_),
              {}};
  for (const Diagnostic* diagnostic : errors) {
    if (error.context.size() == kMaxErrors) {
      error.context.push_back(fmt::format("and {} more", errors.size() - kMaxErrors));
      break;
    }
    error.context.push_back(Line(*diagnostic));
  }
  return error;
}

std::string_view NearestName(std::string_view name, std::span<const std::string_view> known) {
  if (name.size() > 64) return {};
  std::string_view best;
  size_t best_distance = std::max<size_t>(1, name.size() / 3) + 1;
  for (const std::string_view candidate : known) {
    const size_t distance = EditDistance(name, candidate);
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string DidYouMean(std::string_view name, std::span<const std::string_view> known) {
  const std::string_view nearest = NearestName(name, known);
  return nearest.empty() ? std::string() : fmt::format(": did you mean '{}'?", nearest);
}

}  // namespace sluice::merge
