import { AppError } from '@copal/shared/errors.ts'
import type { Database } from '../../contracts/database.ts'
import { isCounted } from '../db/queries/batch-queries.ts'
import { findDatasets } from '../db/queries/dataset-queries.ts'
import { isHoldout } from '../db/queries/holdout-queries.ts'
import { findMaskOfFile, IMPORT_PREFIX, type MaskRow } from '../db/queries/mask-queries.ts'
import { findModel, type ModelRow } from '../db/queries/model-queries.ts'
import { GENERAL_HOLDOUT } from '../db/schema/domains.ts'
import { trialsInForce } from '../db/trials-in-force.ts'
import { datasetKey, maskKey } from './artifact-keys.ts'

/**
 * Creates the error for a dataset whose file is not in R2. It becomes the error of the update whose job needs the dataset, so it
 * names the domain and what an operator can do.
 *
 * @returns AppError `not_found`
 */
export async function missingDataset(db: Database, sha256: string): Promise<AppError> {
  const [dataset] = await findDatasets(db, [sha256])
  if (!dataset) return new AppError('not_found', `There is no dataset ${sha256}.`)
  const { domain } = dataset
  const restore = 'Put the file back from a copy of the bucket'
  const lost = `(${datasetKey(sha256)}) are missing in R2, the bucket of artifacts.`
  if (domain === GENERAL_HOLDOUT)
    return new AppError(
      'not_found',
      `The texts of the general holdout ${lost} ${restore}, or set the holdout again: 'npx copal holdout delete', then ` +
        "'npx copal holdout set FILE'.",
    )
  if (await isHoldout(db, sha256))
    return new AppError(
      'not_found',
      `Held-out texts of domain '${domain}' ${lost} ${restore}, or delete the domain, which then begins anew: ` +
        `'npx copal domains delete ${domain}'.`,
    )
  const remedy = (await isCounted(db, sha256))
    ? `${restore}, or have the statistics of the domain made anew from the texts that are retained: 'npx copal domains rebuild ${domain}'.`
    : 'Start the update again: it freezes the texts anew.'
  return new AppError('not_found', `Texts of domain '${domain}' that an update has frozen ${lost} ${remedy}`)
}

/**
 * Creates the error for a mask whose file is not in R2, with what an operator can do.
 *
 * @returns AppError `not_found`
 */
export async function missingMask(db: Database, sha256: string): Promise<AppError> {
  const mask = await findMaskOfFile(db, sha256)
  if (!mask) return new AppError('not_found', `There is no mask ${sha256}.`)
  const uses = waysToEndUse(await findModel(db, mask.model), mask)
  const others = uses.length === 0 ? '' : ` If there is no copy, ${uses.join('; ')}.`
  return new AppError(
    'not_found',
    `The file of mask m${mask.version} of '${mask.model}' (${maskKey(sha256)}) is missing in R2, the bucket of artifacts. Put it back ` +
      `from a copy of the bucket, or with 'npx copal masks import FILE'.${others}`,
  )
}

/** Returns what ends each use of a mask that has no file. */
function waysToEndUse(
  model: ModelRow | undefined,
  { version, updateId, promotedAt }: Pick<MaskRow, 'version' | 'updateId' | 'promotedAt'>,
): string[] {
  if (!model) return []
  const own = [...model.domainVersions].filter(([, used]) => used === version).map(([domain]) => domain)
  const { canary, shadow } = trialsInForce(model)
  const ways = [
    ...(model.activeVersion === version ? ["make another mask active: 'npx copal rollback'"] : []),
    ...own.map(
      (domain) =>
        `have the shared mask serve domain '${domain}' again: 'npx copal domains mask ${domain} --remove'`,
    ),
  ]
  if (canary?.version === version)
    ways.push(
      canary.updateId === undefined
        ? "end its canary: 'npx copal canary --end'"
        : `end its canary with the update: 'npx copal cancel ${canary.updateId}'`,
    )
  if (shadow?.version === version && shadow.updateId === undefined)
    ways.push("end its shadow: 'npx copal shadow --end'")
  const isCandidate = promotedAt === null && !updateId.startsWith(IMPORT_PREFIX)
  return ways.length === 0 && isCandidate ? ['start its update again'] : ways
}
