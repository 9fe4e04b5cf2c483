import { Hono } from 'hono'
import type { AppEnv } from '../../context.ts'

/** Masks and datasets for nodes: mounted at `/internal`. */
export function artifactRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
}
