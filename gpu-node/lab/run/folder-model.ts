import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { z } from 'zod'
import { writeAtomically } from '@copal/gpu-node/platform/atomic-file.ts'

/**
 * The model whose results a laboratory's folder holds. Cached content identifies a model by its linears alone, so
 * without this record it would also match another model with the same linears.
 */
const folderModel = z.object({ id: z.string(), identity: z.string() })
type FolderModel = z.output<typeof folderModel>

/**
 * Reads which model a folder belongs to.
 *
 * @returns undefined if nothing was measured yet, or only by an older version
 */
export async function readFolderModel(outDir: string): Promise<FolderModel | undefined> {
  try {
    return folderModel.parse(JSON.parse(await readFile(pathIn(outDir), 'utf8')))
  } catch {
    return undefined
  }
}

/**
 * Checks that a folder does not belong to another model.
 *
 * @throws AppError `invalid_request`
 */
export async function requireFolderModel(outDir: string, model: FolderModel): Promise<void> {
  const stored = await readFolderModel(outDir)
  if (stored === undefined || stored.identity === model.identity) return
  throw new AppError(
    'invalid_request',
    `The results in ${outDir} belong to a model ('${stored.id}') whose weights, configuration, embedding or tokenizer differ ` +
      `from those of '${model.id}'. Choose another --out.`,
    { param: 'out' },
  )
}

/** Records which model a folder belongs to. */
export async function writeFolderModel(outDir: string, model: FolderModel): Promise<void> {
  await writeAtomically(pathIn(outDir), JSON.stringify(model))
}

function pathIn(outDir: string): string {
  return join(outDir, 'cache', 'model.json')
}
