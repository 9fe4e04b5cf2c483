import { InvalidArgumentError, Option } from 'commander'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { readTextFile } from '../input/text-file.ts'

/** Values of {@link patternsOption} and {@link leaveOutOption}. */
export interface PatternRuleOptions {
  patterns?: string
  leaveOut: string[]
}

/** Creates the option `--patterns <file>`. */
export function patternsOption(): Option {
  return new Option(
    '--patterns <file>',
    'JSON file with other patterns for single linears, like {"model.layers.0.*": "dense"}',
  )
}

/** Creates the option `--leave-out <glob>`. */
export function leaveOutOption(): Option {
  return new Option('--leave-out <glob>', 'linears that stay dense, like *.down_proj.weight; may be repeated')
    .argParser((glob: string, previous: string[]) => {
      if (glob === '')
        throw new InvalidArgumentError('The name of a linear is expected; * stands for any part of it.')
      return [...previous, glob]
    })
    .default([], 'none')
}

/**
 * Reads the rules of the file and adds the linears to leave out. The last rule that matches a linear counts.
 *
 * @returns the content of the file, unchecked
 * @throws UserError as `readTextFile` does; `invalid_request` when the file is not JSON
 */
export function readPatternRules({ patterns, leaveOut }: PatternRuleOptions, cwd: string): unknown {
  const dense = Object.fromEntries(leaveOut.map((glob) => [glob, 'dense']))
  if (patterns === undefined) return dense
  const text = readTextFile(patterns, cwd)
  let rules: unknown
  try {
    rules = JSON.parse(text)
  } catch (cause) {
    throw new UserError('invalid_request', `${patterns} is not JSON.`, { cause })
  }
  if (typeof rules !== 'object' || rules === null || Array.isArray(rules)) return rules
  // Removed first, because assigning to an existing key would keep its earlier position.
  return { ...Object.fromEntries(Object.entries(rules).filter(([glob]) => !(glob in dense))), ...dense }
}
