import java.io.InputStream;
import java.io.OutputStream;
import java.math.BigInteger;
import java.net.HttpURLConnection;
import java.net.URL;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Collection;
import org.bouncycastle.asn1.nist.NISTObjectIdentifiers;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cms.jcajce.JcaSimpleSignerInfoVerifierBuilder;
import org.bouncycastle.tsp.TimeStampRequest;
import org.bouncycastle.tsp.TimeStampRequestGenerator;
import org.bouncycastle.tsp.TimeStampResponse;
import org.bouncycastle.tsp.TimeStampToken;

/** Asks a timestamp service as Bouncy Castle does, and judges its answer: `Timestamps URL`. */
public class Timestamps {
    public static void main(String[] arguments) throws Exception {
        byte[] digest = MessageDigest.getInstance("SHA-256").digest("document".getBytes());
        TimeStampRequestGenerator generator = new TimeStampRequestGenerator();
        generator.setCertReq(true);
        BigInteger nonce = new BigInteger(64, new SecureRandom());
        TimeStampRequest request = generator.generate(NISTObjectIdentifiers.id_sha256, digest, nonce);
        TimeStampResponse response = new TimeStampResponse(ask(arguments[0], request.getEncoded()));
        response.validate(request);
        TimeStampToken token = response.getTimeStampToken();
        Collection<X509CertificateHolder> signers = token.getCertificates().getMatches(token.getSID());
        token.validate(new JcaSimpleSignerInfoVerifierBuilder().build(signers.iterator().next()));
        System.out.println("granted and valid");
        System.out.println("policy " + token.getTimeStampInfo().getPolicy());
        System.out.println("accuracy " + token.getTimeStampInfo().getGenTimeAccuracy().getMillis() + " ms");
    }

    private static byte[] ask(String url, byte[] request) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
        connection.setDoOutput(true);
        connection.setRequestProperty("Content-Type", "application/timestamp-query");
        try (OutputStream out = connection.getOutputStream()) {
            out.write(request);
        }
        try (InputStream in = connection.getInputStream()) {
            return in.readAllBytes();
        }
    }
}
