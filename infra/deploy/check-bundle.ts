/** Part of `npm run check`: checks that the Worker can be deployed, is small, and starts in time. */
import { ensureDashboard } from '../local/dashboard/ensure-dashboard.ts'
import { measureBundle } from './bundle.ts'

/**
 * Cloudflare accepts 3 MB on a free plan and 10 MB on a paid one. A Worker larger than this contains something by
 * mistake.
 */
const MAX_GZIP_BYTES = 1024 * 1024
/** Cloudflare rejects a Worker that needs more processor time than this before its first request. */
const MAX_STARTUP_MS = 1000

const { error } = ensureDashboard()
if (error !== undefined) throw new Error(`The dashboard cannot be built:\n${error}`)
const { bytes, gzipBytes, startupMs } = await measureBundle()
const kib = (count: number) => `${(count / 1024).toFixed(0)} KiB`
const summary =
  `${kib(bytes)}, compressed ${kib(gzipBytes)} of ${kib(MAX_GZIP_BYTES)}; ` +
  `ready after ${startupMs.toFixed(0)} ms of processor time of ${MAX_STARTUP_MS}`
process.stdout.write(`   Worker: ${summary}\n`)
if (gzipBytes > MAX_GZIP_BYTES || startupMs > MAX_STARTUP_MS) process.exitCode = 1
