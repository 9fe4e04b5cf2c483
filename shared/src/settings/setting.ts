/** A program that reads an environment variable. */
export type SettingReader = 'gateway' | 'node' | 'start' | 'command' | 'tests'

/** An environment variable. */
export interface Setting {
  /** The programs that read it; the documentation lists it under the first. */
  readonly readers: readonly [SettingReader, ...SettingReader[]]
  /** A secret: a Worker secret of the gateway, and never printed. */
  readonly secret?: true
  /** The value without the variable; absent when there is no fixed one. */
  readonly default?: string | number
  /** The effect of leaving it out, or an exception to the default. */
  readonly unset?: string
  /** The meaning for operators: Markdown, links relative to `docs/`. */
  readonly meaning: string
}
