#include "textstat.h"

#include <regex>

namespace textstat {

std::vector<std::string> sentences(std::string_view text) {
  static const std::regex end(R"([.!?]+(\s+|$))");
  const std::string copy(text);
  std::sregex_token_iterator it(copy.begin(), copy.end(), end, -1), none;
  return {it, none};
}

}  // namespace textstat
