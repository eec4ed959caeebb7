#include "textstat.h"

#include <algorithm>
#include <cctype>

namespace textstat {

std::map<char, std::uint64_t> letters(std::string_view text) {
  std::map<char, std::uint64_t> counts;
  std::for_each(text.begin(), text.end(), [&](unsigned char c) {
    if (std::isalpha(c)) ++counts[static_cast<char>(std::tolower(c))];
  });
  return counts;
}

}  // namespace textstat
