// sluice tokenize REF: text to the ids that the model's own tokenizer gives, and back.
#include <cctype>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "cli/command.h"
#include "cli/tokenizer_reference.h"
#include "formats/json_reader.h"
#include "io/byte_source.h"

namespace sluice::cli::commands {
namespace {

struct Values {
  std::string ref, text, file;
  std::vector<std::string> decode;
  bool has_text = false, has_file = false, has_decode = false;
  bool parse_special = false, add_special = false, skip_special = false;
};

constexpr char kDetails[] =
    R"(Exactly one of --text, --file and --decode is wanted. A file is taken byte for byte, its last newline too.
Special tokens written in a text ("<|im_start|>") are plain text unless --parse-special is given. A piece is
what the vocabulary calls a token ("Ġthe"); with --decode the answer has the text that the ids stand for.

Examples:
  sluice tokenize model/ --text "Hello world"
  sluice tokenize model.gguf --file prompt.txt --parse-special --add-special --json
  sluice tokenize model/ --decode "19556 905"
)";

// Ids between spaces or commas.
Result<std::vector<uint32_t>> ParseIds(const std::vector<std::string>& arguments) {
  std::vector<uint32_t> ids;
  for (const std::string& argument : arguments) {
    for (size_t at = 0; at < argument.size();) {
      if (argument[at] == ' ' || argument[at] == ',' || argument[at] == '\n') {
        ++at;
        continue;
      }
      uint64_t value = 0;
      const size_t begin = at;
      while (at < argument.size() && argument[at] >= '0' && argument[at] <= '9' && value <= UINT32_MAX) {
        value = value * 10 + static_cast<uint64_t>(argument[at++] - '0');
      }
      if (at == begin || value > UINT32_MAX) {
        return Fail(ErrorCode::kUsage,
                    fmt::format("--decode wants ids, numbers between spaces or commas, not \"{}\"", argument));
      }
      ids.push_back(static_cast<uint32_t>(value));
    }
  }
  return ids;
}

// For JSON, which holds only Unicode: each wrong byte becomes U+FFFD.
std::string AsUtf8(std::string_view bytes) {
  std::string text;
  while (const auto wrong = formats::FirstInvalidUtf8(bytes)) {
    text += bytes.substr(0, *wrong);
    text += "\xEF\xBF\xBD";
    bytes.remove_prefix(*wrong + 1);
  }
  text += bytes;
  return text;
}

Result<int> Run(const Values& values, Session& session) {
  const int given = values.has_text + values.has_file + values.has_decode;
  if (given != 1) {
    return Fail(ErrorCode::kUsage, given == 0 ? "nothing to tokenize: give --text, --file or --decode"
                                              : "only one of --text, --file and --decode can be given");
  }
  std::vector<uint32_t> ids;
  if (values.has_decode) {
    SLUICE_ASSIGN(ids, ParseIds(values.decode));
    if (ids.empty()) return Fail(ErrorCode::kUsage, "--decode has no ids: give at least one, as in --decode \"1 2 3\"");
  }
  std::string text = values.text;
  if (values.has_file) {
    SLUICE_ASSIGN(text, io::ReadWholeFile(values.file, tokenizer::Tokenizer::kMaxTextBytes));
  }
  if (!values.has_decode && text.empty()) {
    return values.has_file ? Fail(Error{ErrorCode::kUsage, "is empty: give a file with some text", {values.file}})
                           : Fail(ErrorCode::kUsage, "--text is empty: give some text, or --file F");
  }

  SLUICE_ASSIGN(const auto tokenizer, OpenTokenizerReference(values.ref, session));
  SLUICE_TRY(session.CheckHeadersFit());
  nlohmann::ordered_json json;
  std::string lines;
  if (values.has_decode) {
    SLUICE_ASSIGN(text, tokenizer->Decode(ids, values.skip_special));
  } else {
    auto encoded = tokenizer->Encode(text, {values.add_special, values.parse_special});
    if (!encoded) {
      return Fail(std::move(encoded).error().In(values.has_file ? values.file : std::string("--text")));
    }
    ids = std::move(*encoded);
  }
  std::vector<std::string> pieces;
  pieces.reserve(ids.size());
  for (const uint32_t id : ids) pieces.push_back(AsUtf8(tokenizer->piece(id)));
  if (session.options.json) {
    json["ids"] = ids;
    json["pieces"] = pieces;
    if (values.has_decode) json["text"] = AsUtf8(text);
  } else if (values.has_decode) {
    lines = text + "\n";
  } else {
    for (size_t i = 0; i < ids.size(); ++i) lines += fmt::format("{:>8}  {}\n", ids[i], pieces[i]);
    lines += fmt::format("{} tokens\n", ids.size());
  }
  session.Print(json, lines);
  return 0;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("REF", values->ref, "A folder, .gguf, tokenizer.json, tokenizer.model or recipe.yml")
      ->required()
      ->group("Arguments");
  CLI::Option* text =
      app.add_option("--text", values->text, "The text to tokenize")->type_name("STRING")->group("Options");
  CLI::Option* file =
      app.add_option("--file", values->file, "A file with the text, UTF-8")->type_name("FILE")->group("Options");
  CLI::Option* decode = app.add_option("--decode", values->decode, "Ids whose text is wanted: \"1 2 3\" or 1 2 3")
                            ->type_name("IDS")
                            ->expected(1, -1)
                            ->group("Options");
  app.add_flag("--parse-special", values->parse_special, "Special tokens written in the text are those tokens")
      ->group("Options");
  app.add_flag("--add-special", values->add_special, "Add what the tokenizer puts around a text (BOS, EOS)")
      ->group("Options");
  app.add_flag("--skip-special", values->skip_special, "With --decode: leave special tokens out")->group("Options");
  return [values, text, file, decode](Session& session) {
    values->has_text = text->count() > 0;
    values->has_file = file->count() > 0;
    values->has_decode = decode->count() > 0;
    return Run(*values, session);
  };
}

}  // namespace

const Command& tokenize_command() {
  static constexpr Command kCommand{.name = "tokenize",
                                    .summary = "A text as the model's tokens, and tokens as text",
                                    .synopsis = "tokenize REF (--text STRING | --file FILE | --decode IDS) [options]",
                                    .details = kDetails,
                                    .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
