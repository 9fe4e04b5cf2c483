/** The root of the checkout. */
export const ROOT: string
/** Variables that keep tools from sending usage data and asking questions. */
export const QUIET_ENVIRONMENT: Readonly<Record<string, string>>
/** A failure that the user can fix: shown as one line, without a stack. */
export class SetupError extends Error {}
/** Returns whether every package of `package-lock.json` is installed at its locked version. */
export function isInstalled(root: string): boolean
/** Installs the locked packages unless they are installed. */
export function ensureInstalled(root: string, log: (line: string) => void): Promise<void>
/** Finds the Node that runs our TypeScript, and the variables that it needs. */
export function findNode(root: string): { path: string; env: Record<string, string> }
/** Returns how long a task may take to end after a signal before it is killed. */
export function longestEndMs(task: string, env: Readonly<Record<string, string | undefined>>): number
/** Runs one of our TypeScript files to its end and exits with its exit code. */
export function runTypeScript(
  root: string,
  file: string,
  args: string[],
  settings?: { options?: readonly string[]; endTimeoutMs?: number },
): void
/** Prints an error, a setup error as one line, and exits with 1; after a signal it ends by that signal. */
export function exitWith(error: unknown): void
