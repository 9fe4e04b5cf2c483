import type { GrammarSource } from './grammar-compiler.ts'

/**
 * What compiling one grammar may take. The compiler bounds its own work, but not that of a single step: where `allOf`
 * combines sixteen patterns on one string it takes minutes, and a gigabyte every ten seconds.
 */
export const TRIAL_LIMITS = { processorMs: 5_000, bytes: 768 * 1024 * 1024 } as const

/** One grammar; the next is sent when it is answered. */
export type TrialRequest = Omit<GrammarSource, 'param'>

/** What became of it; of a refusal what the addon threw. After `too costly` the process ends. */
export type TrialAnswer =
  | { end: 'compiled' | 'too costly' }
  | { end: 'refused'; code: string; message: string; detail?: string | undefined }
