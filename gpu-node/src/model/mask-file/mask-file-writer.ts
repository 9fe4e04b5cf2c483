import { randomUUID } from 'node:crypto'
import { open as openFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { checkLinear } from '@copal/shared/mask/check-linear.ts'
import { layOutMask, type MaskEntry } from '@copal/shared/mask/mask-header.ts'
import { asMaskInvalid } from '@copal/shared/mask/mask-error.ts'
import { DENSE, linearPattern, type MaskKind, type MaskMeta } from '@copal/shared/mask/mask-metadata.ts'
import { keptCounts, parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { packValues } from '@copal/shared/mask/packed-values.ts'
import { explainFullDisk } from '../../platform/full-disk.ts'
import { sha256File } from '../../platform/file-digest.ts'
import { makeFolder } from '../../platform/make-folder.ts'
import { writeFully } from '../../platform/positional-write.ts'

/** One linear to write. */
export interface WrittenLinear {
  /** `[rows, ceil(cols/8)]`, see `shared/src/mask/bit-rows.ts`. */
  bits: Uint8Array
  /** `[rows, cols]`: the values of the kept weights; required for a weights file, ignored for a mask. */
  weights: Float32Array | null
}

/** Writes a mask file with one linear in memory at a time. */
export interface MaskFileWriter {
  /**
   * Writes one linear, in any order. The caller may reuse the memory once the promise settles.
   *
   * @throws AppError `mask_invalid` naming the tensor, `internal_error` when the disk is full
   */
  add(name: string, linear: WrittenLinear): Promise<void>
  /**
   * Completes the file and moves it to `<dir>/<sha256>.safetensors` in one step, replacing any file there.
   *
   * @returns `sparsity`: pruned weights over all weights of all linears, including those left dense
   * @throws AppError `mask_invalid` when a linear was not added
   */
  finish(): Promise<{ path: string; sha256: string; bytes: number; sparsity: number }>
  /** Removes the unfinished file; does nothing after `finish`. */
  discard(): Promise<void>
}

/**
 * Starts a mask file with the same bytes that `encodeMask` gives for the mask. It has a temporary name until `finish`, and a
 * failed write removes it.
 *
 * @param shapes of every linear of the model, those left dense included
 * @param kind `weights`: with the values of the kept weights
 * @param open for tests of full disks
 * @throws AppError `mask_invalid` when a pattern does not fit a linear or names none, `internal_error` when the
 * disk is full
 */
export async function createMaskFileWriter(
  dir: string,
  meta: MaskMeta,
  shapes: ReadonlyMap<string, readonly [rows: number, cols: number]>,
  kind: MaskKind,
  open: typeof openFile = openFile,
): Promise<MaskFileWriter> {
  const { linears, sparsity } = keptLinears(meta, shapes)
  const layout = layOutMask(kind, meta, linears)
  const missing = new Set(linears.keys())
  makeFolder(dir)
  const unfinished = join(dir, `${randomUUID()}.safetensors.partial`)
  const file = await open(unfinished, 'wx')
  let state: 'open' | 'finished' | 'discarded' = 'open'

  async function discard(): Promise<void> {
    if (state !== 'open') return
    state = 'discarded'
    await file.close()
    await rm(unfinished, { force: true })
  }

  /** Runs one write; a failure removes the file. */
  async function writing<T>(step: () => Promise<T>): Promise<T> {
    if (state !== 'open') throw new Error(`the mask file is ${state}`)
    try {
      return await step()
    } catch (error) {
      await discard()
      const purpose = `for a mask file of ${Math.ceil(layout.fileBytes / 1e6)} MB`
      throw explainFullDisk(error, dir, purpose, 'set COPAL_HOME to a larger disk')
    }
  }

  await writing(() => writeFully(file, layout.headerBytes, 0))
  return {
    async add(name, { bits, weights }) {
      const place = layout.linears.get(name)
      if (!place || !missing.has(name)) {
        throw new Error(`'${name}' is ${place ? 'already written' : 'no linear of this mask'}`)
      }
      const { rows, cols } = place
      checkLinear(name, { rows, cols, bits }, linearPattern(meta, name), meta.scope)
      const values = place.values && packLinear(name, bits, weights, place)
      await writing(async () => {
        await writeFully(file, bits, place.bits.begin)
        if (values && place.values) {
          await writeFully(file, new Uint8Array(values.buffer), place.values.begin)
        }
      })
      missing.delete(name)
    },
    async finish() {
      const [first] = missing
      if (first !== undefined) throw new Error(`the mask file still lacks '${first}'`)
      return writing(async () => {
        await file.sync()
        // Tensors arrive in any order, so the file can be hashed only now.
        const sha256 = await sha256File(unfinished)
        const path = join(dir, `${sha256}.safetensors`)
        await file.close()
        // Replaces any file of this name, since a damaged file may have the right size.
        await rename(unfinished, path)
        state = 'finished'
        return { path, sha256, bytes: layout.fileBytes, sparsity }
      })
    },
    discard,
  }
}

/** Returns the linears that the mask contains and the share of all weights that it prunes; both follow from the patterns. */
function keptLinears(meta: MaskMeta, shapes: ReadonlyMap<string, readonly [rows: number, cols: number]>) {
  const linears = new Map<string, { rows: number; cols: number; kept: number }>()
  let kept = 0
  let all = 0
  for (const [name, [rows, cols]] of shapes) {
    all += rows * cols
    const pattern = linearPattern(meta, name)
    if (pattern === DENSE) {
      kept += rows * cols
      continue
    }
    const counts = asMaskInvalid(() => keptCounts(parsePattern(pattern), meta.scope, rows, cols), name)
    linears.set(name, { rows, cols, kept: counts.groups * counts.kept })
    kept += counts.groups * counts.kept
  }
  for (const name of Object.keys(meta.patterns)) {
    if (!shapes.has(name)) {
      throw new AppError(
        'mask_invalid',
        `A pattern is given for '${name}', which is not a linear of the model.`,
      )
    }
  }
  if (linears.size === 0)
    throw new AppError('mask_invalid', 'Every linear stays dense: there is nothing to mask.')
  return { linears, sparsity: 1 - kept / all }
}

function packLinear(
  name: string,
  bits: Uint8Array,
  weights: Float32Array | null,
  { rows, cols }: MaskEntry,
): Uint16Array<ArrayBuffer> {
  if (weights?.length !== rows * cols) {
    throw new Error(
      `'${name}' comes with ${weights?.length ?? 'no'} weights, a weights file takes ${rows * cols}`,
    )
  }
  return packValues(name, bits, weights, rows, cols)
}
