/**
 * Is loaded before a node (`--import`): gives it the GPU of `gpu-that-hangs.ts`, and looks a thousand times as often at calls that
 * may take ten minutes, if HANG_IS_NOTICED is set.
 */
import { registerHooks } from 'node:module'

const DOUBLE = new URL('gpu-that-hangs.ts', import.meta.url).href

registerHooks({
  resolve: (specifier, context, next) =>
    specifier.endsWith('/gpu-addon.ts') && context.parentURL !== DOUBLE
      ? next(DOUBLE, context)
      : next(specifier, context),
})

const { setInterval: original } = globalThis
if (process.env['HANG_IS_NOTICED'])
  globalThis.setInterval = ((callback: () => void, ms: number) =>
    original(callback, ms >= 30_000 ? ms / 1000 : ms)) as typeof setInterval
