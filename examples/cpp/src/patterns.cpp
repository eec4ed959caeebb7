#include "textstat.h"

#include <regex>

namespace textstat {

std::vector<std::string> numbers(std::string_view text) {
  static const std::regex number(R"([-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?)");
  const std::string copy(text);
  std::vector<std::string> found;
  for (std::sregex_iterator it(copy.begin(), copy.end(), number), end; it != end; ++it) {
    found.push_back(it->str());
  }
  return found;
}

}  // namespace textstat
