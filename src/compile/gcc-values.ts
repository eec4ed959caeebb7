/**
 * Which values of options are known to be harmless: to name no file, and to choose no other tools.
 */

/** x86 instruction sets, tuning and code shapes: none of them changes tools or folders. */
export const instructionSet: RegExp =
  /^(?:no-)?(?:sse|avx|fma|bmi|popcnt|aes|pclmul|f16c|lzcnt|movbe|sha|adx|rdrnd|rdseed|xsave|fsgsbase|cx16|sahf|prfchw|mmx|3dnow|abm|tbm|gfni|vaes|vpclmul|tune=|cmodel=|red-zone|stack|preferred-stack|incoming-stack|indirect|function-return|retpoline|omit-leaf|fentry|record-mcount|nop-mcount|skip-rax|harden-sls|speculative|branches-within|general-regs-only|fpmath=|recip|veclibabi|prefer-vector|long-double|align|cet|shstk|relax|accumulate)/;

/** A value with a slash or a suffix may be a file; only these are known to be none. */
export function isHarmlessFeature(value: string): boolean {
  const equals = value.indexOf("=");
  if (equals < 0) return true;
  if (/^(?:debug|macro|file|profile|coverage)-prefix-map=/.test(value)) return true;
  if (/^(?:(?:debug|coverage|file)-compilation-dir|profile-dir|random-seed)=/.test(value))
    return true;
  return /^[\w+,:-]*$|^[\d.]+$/.test(value.slice(equals + 1));
}

export const assemblerFlag: RegExp =
  /^(?:--(?:no)?execstack|--fatal-warnings|--no-warn|-W|--warn|-g\w*|--gdwarf-\d(?:-[a-z-]+)?|--gdwarf-sections|--compress-debug-sections(?:=\w+)?|--nocompress-debug-sections|-m[\w=.+-]+|--divide|--elf-stt-common=\w+|--noexecstack|--generate-missing-build-notes=\w+|-mrelax-relocations=\w+)$/;
