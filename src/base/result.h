// Result<T>: a value or an Error. The world fails with a Result; a mistake of ours aborts (check.h).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

namespace sluice {

// Closed list. Each code has one exit status (ExitStatus) and one name in JSON (CodeName).
enum class ErrorCode {
  kUsage,         // flags or arguments that make no sense                        exit 2
  kRecipe,        // a recipe that cannot be merged as written                    exit 2
  kOutputExists,  // an output that exists and is not empty, without --force      exit 2
  kUnsupported,   // understood, but not something this version does              exit 2
  kNotFound,      // an input that does not exist                                 exit 3
  kCorrupt,       // an input that is not what it claims to be                    exit 3
  kRead,          // the system failed to read an input                           exit 3
  kBudget,        // cannot be done within --max-memory                           exit 4
  kWrite,         // the output could not be written (no space, read-only, ...)   exit 6
  kCancelled,     // interrupted by a signal                                      exit 130
};

const char* CodeName(ErrorCode code);
int ExitStatus(ErrorCode code);

struct Error {
  ErrorCode code;
  std::string message;               // one line: what is wrong and what to do
  std::vector<std::string> context;  // outermost first: file, tensor, ... ; or, for a recipe, all its errors, one each

  // "context: context: message", on one line.
  std::string ToString() const;
  // Adds an outer context ("model-00003-of-00007.safetensors") and returns the error.
  Error&& In(std::string outer) &&;
};

template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
};

inline tl::unexpected<Error> Fail(ErrorCode code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message), {}});
}
// With the place it is about: a file, a folder, a REF.
inline tl::unexpected<Error> FailIn(ErrorCode code, std::string place, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message), {std::move(place)}});
}
inline tl::unexpected<Error> Fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

}  // namespace sluice

#define SLUICE_CONCAT_(a, b) a##b
#define SLUICE_CONCAT(a, b) SLUICE_CONCAT_(a, b)

// SLUICE_TRY(expr): returns expr's error from the enclosing function.
#define SLUICE_TRY(expr)                                        \
  do {                                                          \
    if (auto sluice_result_ = (expr); !sluice_result_) {        \
      return ::sluice::Fail(std::move(sluice_result_).error()); \
    }                                                           \
  } while (false)

// SLUICE_ASSIGN(auto x, expr): x is expr's value, or its error is returned from the enclosing function.
#define SLUICE_ASSIGN(declaration, expr) SLUICE_ASSIGN_(SLUICE_CONCAT(sluice_result_, __LINE__), declaration, expr)
#define SLUICE_ASSIGN_(result, declaration, expr)                \
  auto result = (expr);                                          \
  if (!result) return ::sluice::Fail(std::move(result).error()); \
  declaration = std::move(*result)

// The same, with an outer context added to the error.
#define SLUICE_TRY_IN(outer, expr)                                        \
  do {                                                                    \
    if (auto sluice_result_ = (expr); !sluice_result_) {                  \
      return ::sluice::Fail(std::move(sluice_result_.error()).In(outer)); \
    }                                                                     \
  } while (false)
