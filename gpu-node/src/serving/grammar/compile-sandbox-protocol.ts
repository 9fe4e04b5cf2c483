/**
 * Limits of compiling one grammar. The compiler bounds its own work, but not that of a single step: when `allOf` combines
 * sixteen patterns on one string, it takes minutes, and a gigabyte every ten seconds.
 */
export const COMPILE_LIMITS: CompileLimits = { processorMs: 5_000, bytes: 768 * 1024 * 1024 }

/** Limits of compiling one grammar. */
export interface CompileLimits {
  /** Processor time, milliseconds. */
  readonly processorMs: number
  /** Memory of the process. */
  readonly bytes: number
}

/** A grammar in a language of the addon. */
export interface SandboxGrammar {
  language: 'json_schema' | 'lark'
  text: string
}

/** A grammar to compile within limits. The next request is sent after the result of this one. */
export type SandboxRequest = SandboxGrammar & { limits: CompileLimits }

/** The result of compiling a grammar. A rejection carries the addon's error. The process ends after `too costly`. */
export type SandboxResult =
  | { outcome: 'compiled' | 'too costly' }
  | { outcome: 'rejected'; code: string; message: string; detail?: string | undefined }
