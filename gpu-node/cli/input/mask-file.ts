import { createHash, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { SafetensorsError } from '@copal/shared/mask/safetensors-container.ts'
import { openMaskFile, type MaskFileReader } from '@copal/gpu-node/model/mask-file/mask-file-reader.ts'
import { describeSystemError } from '@copal/gpu-node/platform/system-error.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { ApiClient } from '../api/api-client.ts'
import { modelQuery } from './mask-argument.ts'
import { formatMask } from '@copal/gpu-node/platform/quantities.ts'

/**
 * Downloads the file of a registered mask and checks its hash. The file gets its name only when it is complete.
 *
 * @throws UserError `file_exists`, `mask_damaged`, and the errors of the API client
 */
export async function downloadMask(
  client: ApiClient,
  version: number,
  model: string | undefined,
  path: string,
): Promise<{ sha256: string; bytes: number }> {
  if (existsSync(path))
    throw new UserError('file_exists', `${path} already exists. Remove it, or choose another name.`)
  const { sha256: expected, chunks } = await client.adminFile(`/masks/${version}/file${modelQuery(model)}`)
  const unfinished = `${path}.${randomUUID()}.partial`
  try {
    const hash = createHash('sha256')
    let bytes = 0
    const file = await open(unfinished, 'wx')
    try {
      for await (const chunk of chunks) {
        hash.update(chunk)
        bytes += chunk.byteLength
        await file.writeFile(chunk)
      }
    } finally {
      await file.close()
    }
    const sha256 = hash.digest('hex')
    if (sha256 !== expected) {
      throw new UserError(
        'mask_damaged',
        `The file of ${formatMask(version)} arrived damaged: its hash is ${sha256}, expected ${expected}. Try again.`,
      )
    }
    await rename(unfinished, path)
    return { sha256, bytes }
  } finally {
    await rm(unfinished, { force: true })
  }
}

/**
 * Opens a mask file that the user named.
 *
 * @throws UserError `file_unreadable`; `mask_invalid`, which names the file
 */
export function openNamedMask(name: string, cwd: string): MaskFileReader {
  try {
    return openMaskFile(resolve(cwd, name))
  } catch (error) {
    const fault = describeSystemError(error, cwd, name)
    if (fault !== undefined) throw new UserError('file_unreadable', `${fault}.`, { cause: error })
    if (!(error instanceof AppError)) throw error
    const message =
      error.cause instanceof SafetensorsError
        ? `${name} is not a safetensors file (${error.cause.message}). Name a mask file like those that 'npx copal masks export' writes.`
        : `${name}: ${error.message}`
    throw new UserError(error.code, message, { cause: error })
  }
}
