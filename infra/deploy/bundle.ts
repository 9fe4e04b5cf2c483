import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { runWrangler } from '../local/toolchain/run-wrangler.ts'

/** Measurements of the Worker as it would be uploaded. */
export interface Bundle {
  bytes: number
  /** The size that Cloudflare's limits apply to. */
  gzipBytes: number
  /**
   * Processor time on this machine until the Worker can take its first request; an overestimate, because it is
   * profiled.
   */
  startupMs: number
}

/** A V8 profile: `samples[i]` names the node that ran for `timeDeltas[i]` µs. */
interface Profile {
  nodes: { id: number; callFrame: { functionName: string } }[]
  samples: number[]
  timeDeltas: number[]
}

/**
 * Bundles the Worker as a deployment does, without uploading it, and starts it once in workerd.
 *
 * @throws Error with Wrangler's output when it cannot be bundled or started
 */
export async function measureBundle(): Promise<Bundle> {
  const dir = mkdtempSync(join(tmpdir(), 'copal-bundle-'))
  try {
    await wranglerOrThrow(['deploy', '--dry-run', '--outdir', dir])
    const script = readFileSync(join(dir, 'index.js'))
    const profilePath = join(dir, 'startup.cpuprofile')
    await wranglerOrThrow(['check', 'startup', '--outfile', profilePath])
    const profile = JSON.parse(readFileSync(profilePath, 'utf8')) as Profile
    return {
      bytes: script.byteLength,
      gzipBytes: gzipSync(script).byteLength,
      startupMs: activeMs(profile),
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Returns the milliseconds of a profile without its idle time. */
export function activeMs({ nodes, samples, timeDeltas }: Profile): number {
  const idle = new Set(nodes.filter((node) => node.callFrame.functionName === '(idle)').map(({ id }) => id))
  const activeUs = samples.reduce((sum, id, i) => sum + (idle.has(id) ? 0 : (timeDeltas[i] ?? 0)), 0)
  return activeUs / 1000
}

async function wranglerOrThrow(args: readonly string[]): Promise<void> {
  const { exitCode, output } = await runWrangler(args, { terminal: false })
  if (exitCode !== 0) throw new Error(`wrangler ${args.join(' ')} failed:\n${output}`)
}
