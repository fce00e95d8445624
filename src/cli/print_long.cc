#include "cli/print_long.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fmt/format.h>

namespace sluice::cli {

Result<void> PrintLong(Session& session, const formats::LongObject& json, std::string_view text) {
  if (!session.options.json) {
    session.Print(nlohmann::ordered_json(), text);
    return {};
  }
  formats::LongObject with_schema = json;
  with_schema.json = {{"schema", fmt::format("sluice/{}/v1", session.command())}};
  with_schema.json.update(json.json);
  int error = 0;
  const auto write = [&](std::string_view piece) {
    if (error == 0 && std::fwrite(piece.data(), 1, piece.size(), stdout) != piece.size()) error = errno;
  };
  formats::WriteJson(with_schema, write);
  write("\n");
  if (error == 0 && std::fflush(stdout) != 0) error = errno;
  if (error == EPIPE) {
    session.Print(nlohmann::ordered_json(), "");  // meets the same, which is how a reader that had enough is told
  } else if (error != 0) {
    return Fail(ErrorCode::kWrite, fmt::format("the result could not be written to stdout: {}", std::strerror(error)));
  }
  return {};
}

}  // namespace sluice::cli
