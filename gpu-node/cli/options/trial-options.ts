import { InvalidArgumentError, type Command } from 'commander'
import type { StartTrial, TrialNodes } from '@copal/shared/wire/admin-trials.ts'
import { counted } from '@copal/gpu-node/platform/quantities.ts'

/** What {@link addTrialOptions} adds. */
export interface TrialOptions {
  share?: number
  end?: boolean
  model?: string
  json?: boolean
}

/** Gives a command the options of a mask on trial. */
export function addTrialOptions(command: Command, of: 'keys' | 'requests'): Command {
  return command
    .option('--share <share>', `of the ${of}: like 10% or 0.1`, parseShare)
    .option('--end', 'end it')
    .option('--model <id>', 'which model, where the fleet serves several')
    .option('--json', 'print JSON')
}

/** What the options ask for; undefined: only to be told. */
export function trialChange(
  mask: number | undefined,
  { share, end, model }: TrialOptions,
  command: Command,
): StartTrial | 'end' | undefined {
  if (end) {
    if (mask !== undefined || share !== undefined)
      command.error("error: '--end' takes neither a mask nor a share")
    return 'end'
  }
  if (mask === undefined && share === undefined) return undefined
  if (mask === undefined) return command.error("error: '--share' needs a mask: name the one that is tried")
  if (share === undefined) return command.error("error: a mask needs '--share', like '--share 10%'")
  return { mask_version: mask, share, ...(model === undefined ? {} : { model }) }
}

/** Which nodes take part, and why others do not. */
export function describeNodes({ ready, alive, errors }: TrialNodes): string[] {
  const failures = errors.map(({ node, message }) => `Node '${node}' cannot load it: ${message}`)
  return ready === alive && alive > 0
    ? failures
    : [`${ready} of ${counted(alive, 'node')} ${alive === 1 ? 'holds' : 'hold'} it now.`, ...failures]
}

function parseShare(text: string): number {
  const match = /^(\d{1,3}(?:\.\d{1,6})?)(%?)$/.exec(text)
  const share = match ? Number(match[1]) / (match[2] ? 100 : 1) : 0
  if (share > 0 && share <= 1) return share
  throw new InvalidArgumentError('A share above 0 is expected, like 10% or 0.1, and at most 100%.')
}
