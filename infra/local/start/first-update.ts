import { join } from 'node:path'
import {
  type CreateUpdate,
  driftReport,
  type DriftReport,
  maskEntry,
  updateEntry,
  type UpdateEntry,
} from '@copal/shared/wire/admin.ts'
import { domainEntry, importedTexts } from '@copal/shared/wire/admin-domains.ts'
import { generalHoldout } from '@copal/shared/wire/admin-holdout.ts'
import { withCommands } from '../../../gpu-node/cli/api/command-wording.ts'
import { followUpdate } from '../../../gpu-node/cli/api/follow-update.ts'
import { listOf, type ApiClient } from '../../../gpu-node/cli/api/api-client.ts'
import type { ProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { formatMask, formatPerplexity } from '../../../gpu-node/src/platform/quantities.ts'
import { UserError } from '../../../gpu-node/src/platform/user-error.ts'
import { splitBundledText } from '../../../gpu-node/cli/input/bundled-text.ts'

const DOMAIN = 'general'
const REMEDY = `The dense model still serves. Try again with: npx copal update ${DOMAIN}`

/**
 * Makes the first mask of a new service, calibrated on the bundled text.
 *
 * All its state is in the gateway, so an interrupted first update continues where it was: texts that have arrived are
 * not sent again, and a running update is followed.
 *
 * A rejected call ends the attempt and not the service, which serves the dense model.
 *
 * @returns a message for the user; `undefined` when the service already had a mask
 */
export async function firstUpdate(
  client: ApiClient,
  bar: ProgressBar,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    return await makeFirstMask(client, bar, signal)
  } catch (error) {
    if (signal.aborted || !(error instanceof UserError)) throw error
    return `The first mask was not made: ${error.message} ${REMEDY}`
  }
}

async function makeFirstMask(
  client: ApiClient,
  bar: ProgressBar,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { data: masks } = await client.admin('GET', '/masks', listOf(maskEntry))
  if (masks.length > 0 && (await hasEnded(client))) return undefined
  const running = await findUpdate(client)
  if (running === undefined) {
    const { texts, heldOut } = splitBundledText(join(import.meta.dirname, '..', '..', '..'))
    await setGeneralHoldout(client, heldOut)
    await importBundledText(client, texts, bar)
  }
  const update =
    running ??
    (await client.admin('POST', '/updates', updateEntry, { domains: [DOMAIN] } satisfies CreateUpdate))
  const ended = await followUpdate(client, update.id, bar, signal)
  if (ended.state !== 'promoted' || ended.mask_version === null) {
    const reason = ended.error ? `: ${withCommands(ended.error.message)}` : '.'
    return `The first update ended with state ${ended.state}${reason.replace(/\.?$/, '.')} ${REMEDY}`
  }
  return describe(await client.admin('GET', '/drift', driftReport), ended.mask_version)
}

async function findUpdate(client: ApiClient): Promise<UpdateEntry | undefined> {
  const { data } = await client.admin('GET', '/updates', listOf(updateEntry))
  return data.find(({ finished_at }) => finished_at === null)
}

async function hasEnded(client: ApiClient): Promise<boolean> {
  return (await findUpdate(client)) === undefined
}

/** Sets the general holdout, unless there is one. */
async function setGeneralHoldout(client: ApiClient, texts: readonly string[]): Promise<void> {
  const { holdout } = await client.admin('GET', '/holdout', generalHoldout)
  if (holdout === null) await client.admin('PUT', '/holdout', generalHoldout, { texts })
}

async function importBundledText(
  client: ApiClient,
  texts: readonly string[],
  bar: ProgressBar,
): Promise<void> {
  const { data } = await client.admin('GET', '/domains', listOf(domainEntry))
  const seen = data.find(({ name }) => name === DOMAIN)?.seen ?? 0
  if (seen >= texts.length) return
  const { pieces } = await client.admin('POST', `/domains/${DOMAIN}/texts`, importedTexts, { texts })
  bar.update(`Importing texts of the domain ${DOMAIN}`, 1, `${pieces} of ${texts.length} texts`)
}

/** Describes the new mask, with the perplexity on held-out text of the dense model and of the mask. */
function describe(report: DriftReport, version: number): string {
  const column = report.r.domains.indexOf(DOMAIN)
  const at = (wanted: number) =>
    report.r.perplexity[report.r.stages.findIndex(({ mask_version }) => mask_version === wanted)]?.[column] ??
    undefined
  const dense = at(0)
  const pruned = at(version)
  const live = `${formatMask(version)} is live: half of the weights are pruned, and no request was interrupted.`
  if (dense === undefined || pruned === undefined) return live
  return `${live} Perplexity on held-out text: ${formatPerplexity(dense)} dense, ${formatPerplexity(pruned)} pruned.`
}
