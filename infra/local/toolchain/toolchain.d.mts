/** The checkout. */
export const ROOT: string
/** Tools that would otherwise report to their makers, or ask questions, are told not to. */
export const QUIET_ENVIRONMENT: Readonly<Record<string, string>>
/** A failure that is the user's to mend: shown as one line, without a stack. */
export class SetupError extends Error {}
/** Whether every package of `package-lock.json` is installed at its locked version. */
export function isInstalled(root: string): boolean
/** Installs the locked packages unless they are installed already. */
export function ensureInstalled(root: string, log: (line: string) => void): Promise<void>
/** The Node that runs our TypeScript, and what it needs in its environment. */
export function findNode(root: string): { path: string; env: Record<string, string> }
/** How long a task may take to end after a signal, before it is killed. */
export function longestEndMs(task: string, env: Readonly<Record<string, string | undefined>>): number
/** Runs one of our TypeScript files to its end and exits as it did. */
export function runTypeScript(root: string, file: string, args: string[], mostMs?: number): void
/** Ends this process with a setup error's one line, or a defect's stack. */
export function exitWith(error: unknown): never
