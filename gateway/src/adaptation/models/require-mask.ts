import { AppError } from '@copal/shared/errors.ts'
import type { Database } from '../../contracts/database.ts'
import { findMask, type MaskRow } from '../../storage/db/queries/mask-queries.ts'

/**
 * Returns a mask of a model.
 *
 * @param param the field that names it
 * @throws AppError `not_found`
 */
export async function requireMask(
  db: Database,
  model: string,
  version: number,
  param: string,
): Promise<MaskRow> {
  const mask = await findMask(db, model, version)
  if (mask) return mask
  const message = `'${model}' has no mask m${version}. 'GET /admin/masks' lists the masks.`
  throw new AppError('not_found', message, { param })
}

/**
 * Rejects a mask whose file is deleted, or is to be deleted. What uses a mask keeps its file, but brings none back.
 *
 * @throws AppError `conflict`
 */
export function requireMaskFile({ model, version, sweptAt }: MaskRow): void {
  if (sweptAt === null) return
  throw new AppError(
    'conflict',
    `The file of mask m${version} of '${model}' was deleted, because nothing has used it for COPAL_MASK_DAYS. Import it again ` +
      "with 'npx copal masks import' if you have a copy. 'npx copal masks pin' keeps the file of a mask.",
  )
}
