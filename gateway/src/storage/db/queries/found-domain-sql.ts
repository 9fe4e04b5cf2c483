import { sql, type SQL, type SQLWrapper } from 'drizzle-orm'

/** Returns the id of the request that an attempt is of: later ones have `.2` and so on after it. */
export function firstAttempt(requestId: SQLWrapper): SQL {
  return sql`substr(${requestId}, 1, instr(${requestId} || '.', '.') - 1)`
}

/** Returns the domain that was found for the request of an attempt, or else the one that it was settled under. */
export function domainOf(requestId: SQLWrapper, settled: SQLWrapper): SQL {
  return sql`coalesce((select domain from request_domains where request_id = ${firstAttempt(requestId)}), ${settled})`
}
