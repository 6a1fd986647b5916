# What a program does with Perl's Redis: redis.pl PORT BEHIND.
use strict;
use warnings;
use Redis;
use Time::HiRes qw(sleep time);

my ($port, $behind_port) = @ARGV;
$| = 1;

sub show {
    my ($value) = @_;
    return 'undef' unless defined $value;
    return '[' . join(', ', map { show($_) } @$value) . ']' if ref $value eq 'ARRAY';
    return '{' . join(', ', map { "$_ => " . show($value->{$_}) } sort keys %$value) . '}' if ref $value eq 'HASH';
    return "$value";
}

sub say_that {
    my ($what, @values) = @_;
    (my $line = "$what: " . show(\@values)) =~ s/:$port\b/:PORT/g;
    $line =~ s/\n.*//s;
    $line =~ s/ at \S+ line \d+.*//;
    print "$line\n";
}

sub attempt {
    my ($what, $call) = @_;
    my $value = eval { $call->() };
    say_that($what, $@ ? "died: $@" : $value);
}

sub eventually {
    my ($what, $condition) = @_;
    my $deadline = time + 20;
    until ($condition->()) {
        die "waited in vain for $what" if time > $deadline;
        sleep 0.002;
    }
    say_that('eventually', $what);
}

sub connection {
    my ($to, %options) = @_;
    return Redis->new(server => '127.0.0.1:' . ($to || $port), read_timeout => 20, reconnect => 20, every => 50_000, %options);
}

my ($near, $behind) = (connection(), connection($behind_port));

sub options {
    my $named = connection(undef, name => 'mine', on_connect => sub { $_[0]->select(3) });
    $named->set(where => 'three');
    say_that('name and database', $named->client_getname, $named->get('where'), $near->get('where'));
    $behind->acl('SETUSER', 'app', 'on', '>secret', '~app:*', '+@all');
    my $app = connection(undef, username => 'app', password => 'secret');
    say_that('allowed', $app->acl('WHOAMI'), $app->set('app:1', 'a'), $app->get('app:1'), $app->get('app:1'));
    attempt('forbidden', sub { $app->get('s') });
    attempt('wrong password', sub { connection(undef, username => 'app', password => 'wrong', reconnect => 0) });
    attempt('no such database', sub { $near->select(99) });
}

sub values_of_every_kind {
    say_that('set and get', $near->set(s => 'v'), $near->get('s'), $near->get('s'), $near->get('none'));
    my $bytes = join '', map { chr } 0 .. 255;
    say_that('binary', $near->set($bytes => $bytes), map { $near->get($bytes) eq $bytes } 1 .. 2);
    my $big = $bytes x 40_000;
    say_that('10 MB', $near->set(big => $big), (map { $near->get('big') eq $big } 1 .. 2), $near->strlen('big'));
    $near->hmset('h', a => 1, b => 2);
    say_that('hash', [$near->hgetall('h')], [$near->hmget('h', 'a', 'c')], [$near->hgetall('none')]);
    $near->zadd('z', 1.5, 'x', '+inf', 'w');
    say_that('scores', [$near->zrange('z', 0, -1, 'WITHSCORES')], $near->zscore('z', 'x'), $near->zscore('z', 'no'));
    say_that('many', $near->mset(m1 => 1, m2 => 2), [$near->mget('m1', 'none', 'h')], [$near->mget('m1', 'm2')]);
    attempt('wrong type', sub { $near->get('h') });
    attempt('unknown', sub { $near->nosuch('a') });
    attempt('not a number', sub { $near->incr('s') });
    say_that('info', $near->info->{redis_version} eq $behind->info->{redis_version});
}

sub pipelines {
    my @replies;
    for my $number (0 .. 499) {
        my $key = 'p:' . $number % 10;
        $near->set($key, $number, sub { push @replies, [@_] });
        $near->get($key, sub { push @replies, [@_] });
    }
    $near->wait_all_responses;
    say_that('pipeline', @replies);
    $near->set(t => 1);
    $near->multi;
    say_that('queued', $near->incr('t'), $near->get('t'), [$near->exec]);
    for my $writer (['foreign', $behind], ['own', connection()]) {
        $near->watch('t');
        say_that('watched', $near->get('t'));
        $writer->[1]->set(t => 10);
        $near->multi;
        $near->set(t => 3);
        say_that("conflict, $writer->[0] write", $near->exec);
    }
    $near->multi;
    attempt('refused while queueing', sub { $near->nosuch });
    attempt('and so', sub { $near->exec });
}

sub channels {
    my ($listener, @got) = (connection());
    my ($by_name, $by_pattern) = (sub { push @got, [@_] }, sub { push @got, ['by pattern', @_] });
    $listener->subscribe('news', 'more', $by_name);
    $listener->psubscribe('new*', $by_pattern);
    say_that('receivers', $near->publish('news', 'one'), $near->publish('more', 'two'));
    $near->publish('more', $_) for 1 .. 100;
    $listener->wait_for_messages(1) while @got < 103;
    say_that('in order', @got);
    attempt('in this context', sub { $listener->get('s') });
    $listener->unsubscribe('news', 'more', $by_name);
    $listener->punsubscribe('new*', $by_pattern);
    say_that('usable again', $listener->get('s'));
}

sub blocking {
    $near->rpush('q1', 'a', 'b');
    say_that('there already', [$near->blpop('q0', 'q1', 1)], $near->brpoplpush('q1', 'q2', 1));
    say_that('timed out', [$near->blpop('q1', 1)]);
}

sub streams {
    $near->xgroup('CREATE', 'x', 'workers', '0', 'MKSTREAM');
    attempt('group exists', sub { $near->xgroup('CREATE', 'x', 'workers', '0') });
    $near->xadd('x', "$_-1", 'n', $_) for 1 .. 5;
    say_that('read by group', $near->xreadgroup('GROUP', 'workers', 'one', 'COUNT', 3, 'STREAMS', 'x', '>'));
    say_that('acknowledged', $near->xack('x', 'workers', '1-1'), $near->xpending('x', 'workers'));
    say_that('claimed', $near->xautoclaim('x', 'workers', 'two', 0, '0-0'));
    say_that('nothing', $near->xread('BLOCK', 50, 'STREAMS', 'x', '$'));
}

sub scripts {
    my ($sha) = $near->script_load("redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) * 2) return redis.call('GET', KEYS[1])");
    $near->set(script => 5);
    say_that('script', $near->get('script'), $near->evalsha($sha, 1, 'script'), $near->get('script'));
    $near->script_flush;
    attempt('unknown script', sub { $near->evalsha($sha, 1, 'script') });
    say_that('nested', $near->eval("return {1, 'two', false, {3, {4}}}", 0));
}

sub scans {
    $near->mset(map { ("scan:$_" => $_) } 0 .. 4999);
    my ($cursor, %found) = (0);
    do {
        ($cursor, my $keys) = $near->scan($cursor, MATCH => 'scan:*', COUNT => 50);
        $found{$_} = 1 for @$keys;
    } while ($cursor);
    say_that('found', scalar keys %found);
}

sub restarts {
    print "\@restart\n";
    <STDIN>;
    eventually('reconnected', sub { eval { $near->set(again => 1) } });
    say_that('after a restart', $near->get('again'), $near->get('again'));
}

print "version $Redis::VERSION\n";
for my $scenario (
    [options => \&options], [values => \&values_of_every_kind], [pipelines => \&pipelines], [channels => \&channels],
    [blocking => \&blocking], [streams => \&streams], [scripts => \&scripts], [scans => \&scans], [restarts => \&restarts],
) {
    say_that('---', $scenario->[0]);
    $scenario->[1]->();
}
print "done\n";
