import { InvalidArgumentError, Option } from 'commander'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { readTextFile } from '../input/text-file.ts'

/** What {@link patternsOption} and {@link leaveOutOption} were given. */
export interface PatternRuleOptions {
  patterns?: string
  leaveOut: string[]
}

/** `--patterns <file>` */
export function patternsOption(): Option {
  return new Option(
    '--patterns <file>',
    'JSON: other patterns for single linears, {"model.layers.0.*": "dense"}',
  )
}

/** `--leave-out <glob>` */
export function leaveOutOption(): Option {
  return new Option('--leave-out <glob>', 'linears that stay dense, like *.down_proj.weight; repeat it')
    .argParser((glob: string, previous: string[]) => {
      if (glob === '') throw new InvalidArgumentError('Names of linears are expected, * being any part.')
      return [...previous, glob]
    })
    .default([], 'none')
}

/**
 * The rules of the file, then what is left out: the last that matches counts.
 *
 * @returns what stands in the file, not checked
 * @throws UserError as `readTextFile` does; `invalid_request` it is not JSON
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
  // A rule that stands in the file already would keep its place in it.
  return { ...Object.fromEntries(Object.entries(rules).filter(([glob]) => !(glob in dense))), ...dense }
}
