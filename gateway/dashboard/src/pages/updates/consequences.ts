/** The effects of cancelling or forcing an update, told to the operator before. */
import { listNames } from '@copal/shared/phrases.ts'
import type { DecisionEntry } from '@copal/shared/wire/admin-decisions.ts'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { maskName, maskNameFirst, maskVerb } from '../../format/mask-names.ts'
import { plural } from '../../format/numbers.ts'

/** The effects of cancelling an update. */
export function cancelConsequences({
  state,
  parent_version: parent,
  mask_version: version,
  domains,
}: UpdateEntry): string[] {
  const before = parent === null ? 'The active mask' : maskNameFirst(parent)
  const serves =
    state === 'canary'
      ? `${version === null ? 'The canary' : maskNameFirst(version)} stops serving its share; ${maskName(parent ?? 0)} ${maskVerb(parent ?? 0, 'serves', 'serve')} all conversations again. Running requests end where they are.`
      : `${before} ${maskVerb(parent ?? 1, 'goes', 'go')} on serving everybody. The node stops the job with its next heartbeat.`
  return [
    serves,
    `The texts of ${listNames(domains)} are given back, so a later update can take them.`,
    'It cannot be resumed: start a new update to try again.',
  ]
}

/** The effects of forcing a rejected mask. */
export function forceConsequences(
  { mask_version: version, parent_version: parent, model }: UpdateEntry,
  rejection: Pick<DecisionEntry, 'kind' | 'figures'> | undefined,
): string[] {
  const mask = maskName(version ?? 0)
  const failed = rejection?.figures.filter(({ passed }) => !passed).length ?? 0
  const why =
    rejection?.kind === 'confirm'
      ? 'its confirmation failed'
      : `${plural(failed, 'figure')} of the gate ${failed === 1 ? 'misses its limit' : 'miss their limits'}`
  return [
    `${maskNameFirst(version ?? 0)} becomes active for all conversations of ${model}, although ${why}.`,
    'It serves without a canary, and nothing rolls it back by itself.',
    `To return, roll back to ${maskName(parent ?? 0)} on the page of ${mask}.`,
  ]
}
