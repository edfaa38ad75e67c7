// An OAuth 2 issuer for tests: oidc-provider with client credentials, and with
// token exchange (RFC 8693) for ServiceAccounts of one cluster, whose tokens
// are verified against the cluster's own keys.
//
// Started with the path of a JSON file:
//   { port, tokenSeconds, clients, scopes, log,
//     cluster: { issuer, audience, jwks }, rules }
// `rules` is the path of another, read anew at each exchange: which subject is
// granted which scopes. Each token request is a line of JSON in `log`.

import { appendFileSync, readFileSync } from 'node:fs';
import { createLocalJWKSet, jwtVerify } from 'jose';
import Provider, { errors } from 'oidc-provider';

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT = 'urn:ietf:params:oauth:token-type:jwt';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const keys = createLocalJWKSet(settings.cluster.jwks);

const provider = new Provider(`http://127.0.0.1:${settings.port}`, {
  clients: settings.clients,
  scopes: settings.scopes,
  // What is asked for by others than people needs no consent.
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
  },
  ttl: { ClientCredentials: settings.tokenSeconds },
});

async function exchange(ctx) {
  const { params, client } = ctx.oidc;
  if (params.subject_token_type !== JWT) throw new errors.InvalidRequest('subject_token_type');
  let claims;
  try {
    const { issuer, audience } = settings.cluster;
    ({ payload: claims } = await jwtVerify(params.subject_token, keys, {
      issuer,
      audience,
      algorithms: ['RS256', 'ES256'],
      requiredClaims: ['exp', 'sub'],
    }));
  } catch (error) {
    // RFC 8693, 2.2.2.
    throw new errors.InvalidRequest(`subject_token: ${error.code}`);
  }
  const granted = JSON.parse(readFileSync(settings.rules, 'utf8'))[claims.sub];
  if (!granted) throw new errors.InvalidRequest('subject_token: unknown subject');
  const asked = (params.scope ?? '').split(' ').filter(Boolean);
  const refused = asked.filter((scope) => !granted.includes(scope));
  if (refused.length) throw new errors.InvalidScope('not granted', refused.join(' '));
  const token = new provider.ClientCredentials({
    client,
    scope: asked.join(' ') || undefined,
    extra: { sub: claims.sub },
  });
  ctx.oidc.entity('ClientCredentials', token);
  ctx.body = {
    access_token: await token.save(),
    issued_token_type: ACCESS_TOKEN,
    token_type: token.tokenType,
    expires_in: token.expiration,
    scope: token.scope,
  };
}

provider.registerGrantType(EXCHANGE, exchange, [
  'audience', 'resource', 'scope', 'requested_token_type', 'subject_token', 'subject_token_type',
], ['audience', 'resource']);

// The outcome of each token request, not what was granted.
provider.use(async (ctx, next) => {
  await next();
  if (ctx.path !== '/token') return;
  const { grant_type, scope, client_id } = ctx.oidc?.params ?? {};
  const client = ctx.oidc?.client?.clientId ?? client_id;
  const line = { grant: grant_type, scope, client, status: ctx.status, error: ctx.body?.error };
  appendFileSync(settings.log, `${JSON.stringify(line)}\n`);
});

provider.listen(settings.port, '127.0.0.1', () => console.log('ready'));
