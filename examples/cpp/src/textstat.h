// What is counted in a text, and how it is shown.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

extern "C" {
#include "crc.h"
}

namespace textstat {

struct Count {
  std::string what;
  std::uint64_t times;
};

std::map<char, std::uint64_t> letters(std::string_view text);
std::vector<std::string_view> lines(std::string_view text);
std::vector<Count> words(std::string_view text);
std::vector<Count> pairs(std::string_view text);
std::vector<std::string> sentences(std::string_view text);
std::vector<std::string> numbers(std::string_view text);
std::string report(std::string_view text);

}  // namespace textstat
