import { AppError } from '@copal/shared/errors.ts'
import type { MaskRow } from '../../storage/db/queries/mask-queries.ts'

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
      "with 'copal masks import' if you have a copy. 'copal masks pin' keeps the file of a mask.",
  )
}
