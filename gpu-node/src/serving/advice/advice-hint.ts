import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { sourceHash } from '../../../native/source-hash.mjs'
import { processorName } from '../../platform/processor-name.ts'
import { readIfThere, writeAtomically } from '../../platform/atomic-file.ts'
import type { Advice, AdviceSubject } from './advice.ts'

/** The figures and settings that advice holds for. */
interface AdvisedService {
  cacheDir: string
  /** The model as the settings name it. */
  model: string
  /** How it is served. */
  now: AdviceSubject
}

const hint = z.object({ sentence: z.string() })

const CRATE = join(import.meta.dirname, '..', '..', '..', 'native')

/** Keeps the advice for a service if it is to change something, and forgets earlier advice if it is not. */
export async function keepHint(service: AdvisedService, { better, sentence }: Advice): Promise<void> {
  const stored = better === null ? {} : { sentence, measuredAt: new Date().toISOString() }
  await writeAtomically(pathOf(service), `${JSON.stringify(stored)}\n`)
}

/**
 * Returns the advice that `copal advise` gave for a service as it is served now, on this machine and with these kernels.
 *
 * @returns undefined when there is none, or it was to change nothing
 */
export async function readHint(service: AdvisedService): Promise<string | undefined> {
  const text = await readIfThere(pathOf(service)).catch(() => undefined)
  if (text === undefined) return undefined
  try {
    return hint.parse(JSON.parse(text)).sentence
  } catch {
    return undefined
  }
}

function pathOf({ cacheDir, model, now }: AdvisedService): string {
  const { mask, precision, form } = now
  const key = JSON.stringify([processorName(), sourceHash(CRATE), model, mask, precision, form])
  return join(cacheDir, 'advice', `${createHash('sha256').update(key).digest('hex').slice(0, 32)}.json`)
}
